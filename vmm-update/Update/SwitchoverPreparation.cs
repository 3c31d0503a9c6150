using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>The new VMM is started, and seen to be the same machine, while the guest runs on the old one.</summary>
internal sealed class SwitchoverPreparation(UpdateRun run, IUpdateEngine engine, Switchover switchover, SwitchoverWatch watch)
{
    private readonly HashSet<int> _kvmThreads = [];
    private UpdateJournal? _journal;

    /// <summary>Threads that run guest code, of both VMMs.</summary>
    public IReadOnlySet<int> KvmThreads => _kvmThreads;

    /// <summary>The old VMM's rings; null until all is prepared.</summary>
    public RingDrain? Drain { get; private set; }

    /// <summary>Writes down what of the devices' address spaces is taken out.</summary>
    public void NoteTakenOut(IReadOnlyList<PassThrough.TakenOutBar> bars) => Journal(_journal! with { TakenOut = bars });

    /// <summary>Until nothing is left to be done but the switch.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await run.Faults.HitAsync(FaultPoint.PrepareSpawn, cancellationToken);
        using (var start = engine.Start(switchover))
            switchover.New = run.Host.StartVmm(switchover.NewGeneration, switchover.NewFacts, start);
        try
        {
            Journal(new UpdateJournal(
                UpdateJournal.CurrentSchema,
                engine.Name,
                switchover.Old.Generation,
                switchover.NewGeneration,
                switchover.New.Pid,
                ProcFs.StartTimeTicks(switchover.New.Pid),
                switchover.NewFacts.Path,
                switchover.WasRunning,
                switchover.NewFacts.Version.ToString(),
                run.Started,
                engine.CompletionIsFinal(switchover.Vm))
            {
                Began = run.Clock.Began,
            });
            await run.Faults.HitAsync(FaultPoint.PrepareSpawned, cancellationToken);
            await engine.PrepareAsync(switchover, cancellationToken);
        }
        catch (Exception e) when (e is VmmExitedException or QmpException or SyscallException)
        {
            // That the old VMM finds nobody to talk to, or /proc no such process, is a consequence; the cause is what the new one said before it ended.
            if ((e as VmmExitedException ?? await EndOfAsync(switchover.New)) is not { } ended)
                throw;
            if (ended.Status.Code is null)
                throw ended;
            throw new UpdateException("start-refused", ended.Message, "the new VMM does not accept this VM's command line: see what it said", ended) { IsRefusal = true };
        }

        watch.WatchNew(switchover.New);
        await run.Faults.HitAsync(FaultPoint.PrepareReady, cancellationToken);
        var built = await VmInspector.InspectAsync(switchover.New, switchover.NewFacts, cancellationToken);
        TopologyComparer.Require(switchover.Vm, built);
        await Task.WhenAll(HeapTrim.ProvokeAsync(switchover.New, run.Logger, cancellationToken), HeapTrim.ProvokeAsync(switchover.Old, run.Logger, cancellationToken));
        if (switchover.Vm.Accelerator == "kvm")
            _kvmThreads.UnionWith([.. switchover.Vm.CpuThreads, .. built.CpuThreads]);
        run.Findings.AddRange(MachineRules.Compare(switchover.Vm, built));
        run.RequireNoBlocker();
        run.Findings.AddRange(await run.Host.MatchProcessAsync(switchover.New, cancellationToken));
        run.Findings.AddRange(await run.Host.RepeatSettingsAsync(switchover.New, cancellationToken));
        await run.Host.PrepareConsolesAsync(switchover.New, cancellationToken);
        await run.Host.PrepareNetworkAsync(switchover.Old, cancellationToken);
        await run.Host.HoldListenersAsync(switchover.Old, cancellationToken);
        Drain = RingDrain.Of(switchover.Old);
        await run.Faults.HitAsync(FaultPoint.PrepareVerified, cancellationToken);
    }

    /// <summary>How it ended; null when it has not, nor does so in a second.</summary>
    public static async Task<VmmExitedException?> EndOfAsync(Vmm vmm)
    {
        await ((Task)vmm.Exited.WaitAsync(TimeSpan.FromSeconds(1))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return vmm.Exited.IsCompletedSuccessfully ? new VmmExitedException(vmm, await vmm.Exited, vmm.LogTail()) : null;
    }

    private void Journal(UpdateJournal journal)
    {
        _journal = journal;
        run.Host.SaveJournal(journal);
    }
}
