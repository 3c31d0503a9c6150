using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>How a guest ends and begins anew, by itself and because libvirt asks it to, before an update and after it.</summary>
public sealed class LifecycleTests(LibvirtHost host)
{
    private const string AgentChannel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";

    private const string Ping = """{"execute":"guest-ping"}""";

    /// <summary>Domains here have virtio-serial: on 10.0.13 such a guest must have been started on the newer QEMU, to go back to that.</summary>
    private static readonly DomainOptions WithAgentAndButton = new() { Devices = AgentChannel, Append = "cprsharp.button" };

    [Fact]
    public async Task A_guest_reboots_and_ends_by_itself_and_as_virsh_asks_it_to_before_an_update_and_after_it()
    {
        host.Configure(("Qemu", Components.Qemu111));
        try
        {
            await using var domain = await Domain.DefineAsync(host, "ends", WithAgentAndButton);
            await domain.StartAsync();
            using var events = await EventWatch.StartAsync(host, domain);
            await RebootsAsync(domain, events, () => domain.VirshAsync("reboot", "--mode", "acpi"));
            await UpdateAsync(domain, LibvirtHost.OwnQemu);
            await RebootsAsync(domain, events, () => domain.SayAsync("reboot"));
            await RebootsAsync(domain, events, () => domain.VirshAsync("reboot", "--mode", "agent"));
            await RebootsAsync(domain, events, () => domain.VirshAsync("reboot", "--mode", "acpi"));
            await RebootsAsync(domain, events, () => domain.VirshAsync("reset"));
            await UpdateAsync(domain, LibvirtHost.OwnQemu);
            await EndsAsync(domain, () => domain.SayAsync("poweroff"));

            await domain.StartAsync();
            await EndsAsync(domain, () => domain.VirshAsync("shutdown", "--mode", "acpi"));

            await domain.StartAsync();
            await UpdateAsync(domain, LibvirtHost.OwnQemu);
            await EndsAsync(domain, () => domain.VirshAsync("shutdown", "--mode", "agent"));
        }
        finally
        {
            host.Configure();
        }
    }

    [Fact]
    public async Task The_guest_agent_answers_over_updates_and_libvirt_never_takes_it_for_gone()
    {
        host.Configure(("Qemu", Components.Qemu111));
        try
        {
            await using var domain = await Domain.DefineAsync(host, "agent", WithAgentAndButton);
            await domain.StartAsync();
            await AgentAnswersAsync(domain);
            using var events = await EventWatch.StartAsync(host, domain);
            var before = events.Seen().Length;

            // Somebody asks all the time; every question is answered, those during the updates too.
            var answers = host.File("agent.answers");
            using var asker = host.Start("bash", "-c", $"while virsh -q qemu-agent-command agent '{Ping}'; do :; done >{answers} 2>&1");
            foreach (var to in (string[])[LibvirtHost.OwnQemu, Components.Qemu111])
            {
                var asked = await AnswersAsync(answers);
                await UpdateAsync(domain, to);
                await Deadlines.EventuallyAsync(async () => await AnswersAsync(answers) > asked + 2 ? null : "the agent does not answer any more");
            }

            Assert.False(asker.HasExited, await File.ReadAllTextAsync(answers));
            Assert.DoesNotContain((await File.ReadAllLinesAsync(answers))[..^1], l => l is not ("{\"return\":{}}" or ""));
            Assert.DoesNotContain((await events.ProveAsync())[before..], l => !l.Contains("tainted", StringComparison.Ordinal) && !SaysOfTheStart(l));
            await host.RestartLibvirtdAsync();
            await AgentAnswersAsync(domain);
        }
        finally
        {
            host.Configure();
        }
    }

    /// <summary>That the agent is there, which may be told late; one that comes back was told to be gone before.</summary>
    private static bool SaysOfTheStart(string line) =>
        line.Contains("agent-lifecycle", StringComparison.Ordinal) && line.Contains("'connected'", StringComparison.Ordinal);

    private static async Task RebootsAsync(Domain domain, EventWatch events, Func<Task> reboot)
    {
        await AgentAnswersAsync(domain);
        var boots = domain.Log.Boots();
        var told = events.Seen().Length;
        await reboot();
        await Deadlines.EventuallyAsync(() => domain.Log.Boots() > boots ? null : $"no reboot; the guest said:\n{domain.Log.Tail()}", Deadlines.Guest);
        await Deadlines.EventuallyAsync(() => events.Seen()[told..].Any(l => l.Contains("reboot", StringComparison.OrdinalIgnoreCase)) ? null : $"libvirt tells of no reboot: {string.Join('\n', events.Seen())}");
        Assert.Equal("running", await domain.StateAsync());
    }

    private async Task EndsAsync(Domain domain, Func<Task> end)
    {
        await AgentAnswersAsync(domain);
        await end();
        await Deadlines.EventuallyAsync(async () => await domain.VirshAsync("domstate", "--reason") is var state && state == "shut off (shutdown)" ? null : $"the domain is {state}", Deadlines.Guest);
        await Deadlines.EventuallyAsync(async () => (await host.ProcessesAsync($"guest={domain.Name}")) is { Length: > 0 } left ? $"left: {string.Join(' ', left)}" : null);
    }

    private static Task AgentAnswersAsync(Domain domain) => Deadlines.EventuallyAsync(
        async () => await domain.TryVirshAsync("qemu-agent-command", Ping) is { ExitCode: not 0 } failed ? failed.ToString() : null, Deadlines.Guest);

    /// <summary>The guest goes on; that its log begins anew with each boot does not matter here.</summary>
    private async Task UpdateAsync(Domain domain, string to)
    {
        (await host.TryAsync("cprsharp", "update", domain.Name, "--to", to)).Expect(0);
        await domain.Log.GoesOnAsync();
    }

    private static async Task<int> AnswersAsync(string file) =>
        File.Exists(file) ? (await File.ReadAllLinesAsync(file)).Count(l => l.Contains("return", StringComparison.Ordinal)) : 0;
}
