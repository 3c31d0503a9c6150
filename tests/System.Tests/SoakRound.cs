using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Whom a round of the soak kills. The VMM that runs the guest is nobody's to kill.</summary>
internal enum SoakVictim
{
    None,
    Client,
    Guardian,
    Supervisor,

    /// <summary>Behind <c>transfer.end:hang</c>: the commit, after which it would be the one that runs the guest, never comes.</summary>
    NewVmm,
}

/// <summary>One update of the soak, and what goes wrong with it.</summary>
internal sealed record SoakRound(string To, string Engine, string? Fault, SoakVictim Victim, TimeSpan KillAfter)
{
    private static readonly string[] BeforeThePause = ["inspect.begin", "plan.made", "prepare.spawn", "prepare.spawned", "prepare.ready", "prepare.verified", "pause.begin"];
    private static readonly string[] InThePause = ["transfer.begin", "transfer.end", "commit.begin"];
    private static readonly string[] AfterTheCommit = ["commit.continued", "commit.end", "retire.begin", "retire.end"];
    private static readonly string[] Actions = ["error", "hang", "kill"];

    /// <summary>Exit codes that say what happened truly; 5, an unknown state, is none of them.</summary>
    public int[] ExitCodes => (Victim, Fault) switch
    {
        (SoakVictim.NewVmm, _) => [1, 3, 4], // 3: it was still the one that is asked what the new binary can
        (SoakVictim.Supervisor, _) => [0, 1, 4],
        (_, null) => [0],
        (_, var fault) when AfterTheCommit.Contains(fault.Split(':')[0]) => [0],
        (_, var fault) when BeforeThePause.Contains(fault.Split(':')[0]) => [1],
        (_, var fault) when fault.EndsWith(":kill", StringComparison.Ordinal) => [0, 1, 4],
        _ => [1, 4],
    };

    /// <summary>The same for the same numbers. The old binary matters: only one engine goes backwards.</summary>
    public static SoakRound Draw(Random random, string from)
    {
        var to = random.Next(3) == 0 ? Components.Qemu100 : Components.Qemu111;
        var backwards = from == Components.Qemu111 && to == Components.Qemu100;
        var engine = random.Next(2) == 0 || backwards ? "shared-ram" : "transfer";
        var points = BeforeThePause.Concat(InThePause).Concat(AfterTheCommit).ToArray();
        var fault = $"{points[random.Next(points.Length)]}:{Actions[random.Next(Actions.Length)]}";
        var victim = (SoakVictim)random.Next(1, 5);
        var after = TimeSpan.FromMilliseconds(random.Next(2000));
        return random.Next(10) switch
        {
            < 2 => new SoakRound(to, engine, null, SoakVictim.None, TimeSpan.Zero),
            < 6 => new SoakRound(to, engine, fault, SoakVictim.None, TimeSpan.Zero),
            _ => new SoakRound(to, engine, victim == SoakVictim.NewVmm ? "transfer.end:hang" : null, victim, after),
        };
    }

    public override string ToString() =>
        $"to {Path.GetFileName(Path.GetDirectoryName(Path.GetDirectoryName(Path.GetDirectoryName(To))))} by {Engine}, fault {Fault ?? "none"}, {(Victim == SoakVictim.None ? "nobody" : $"{Victim} after {KillAfter.TotalMilliseconds:0} ms")} killed";
}
