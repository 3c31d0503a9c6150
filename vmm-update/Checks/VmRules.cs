using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: rules on the VM as it was found and the binary it is to go to.</summary>
internal static class VmRules
{
    public static IEnumerable<Finding> Check(VmInspection vm, QemuBinary target)
    {
        yield return Finding.Pass("binary", target.Path, $"QEMU {target.Version}{(target.Package.Length > 0 ? $" ({target.Package})" : "")} answers on QMP");
        yield return MachineType(vm, target);
        yield return RunState(vm);
        foreach (var finding in Memory(vm))
            yield return finding;
        foreach (var reason in vm.BlockedReasons.Where(r => !IsOfOrdinaryMigration(vm, r)))
            yield return Finding.Fail("migration-blocked", vm.MachineType, $"QEMU itself refuses: {reason}", "remove what it names");
        if (vm.MigrationStatus is "setup" or "active" or "device" or "pre-switchover" or "postcopy-active" or "cancelling")
        {
            yield return Finding.Fail(
                "migration-under-way", "migration", $"a migration is '{vm.MigrationStatus}'", "let it end, or end it with migrate_cancel");
        }

        foreach (var job in vm.Jobs)
            yield return Finding.Fail("job-under-way", job.Id, $"a job ({job.Type}) is '{job.Status}', and would end with this VMM", "let it end, or end it with job-complete or job-cancel");
        foreach (var pty in vm.CharDevices.Where(c => c.FileName.StartsWith("pty:", StringComparison.Ordinal)))
            yield return Finding.Warn("chardev-pty", pty.Label, $"it is {pty.FileName}; the new VMM makes a new pty", "use a socket chardev, whose name stays");
    }

    /// <summary>The reasons are those of the mode that is set, which is the ordinary one. There, but not in <c>cpr-transfer</c>, a passed-through
    /// device has to be able to save its own state; what that mode has against the VM is asked when it is set.</summary>
    private static bool IsOfOrdinaryMigration(VmInspection vm, string reason) =>
        !vm.PassedThrough.IsEmpty && reason.Contains("VFIO migration", StringComparison.Ordinal);

    private static Finding MachineType(VmInspection vm, QemuBinary target) => target.Machines.FirstOrDefault(m => m.Name == vm.MachineType) switch
    {
        null => Finding.Fail(
            "machine-type", vm.MachineType, $"QEMU {target.Version} has no such machine type", "choose a binary that has it: versioned machine types live for about six years"),
        { Deprecated: true } => Finding.Warn("machine-type", vm.MachineType, $"deprecated in QEMU {target.Version}", "plan a restart of the VM on a newer machine type"),
        _ => Finding.Pass("machine-type", vm.MachineType, $"pinned, and offered by QEMU {target.Version}"),
    };

    private static Finding RunState(VmInspection vm) => vm.RunState switch
    {
        "running" or "paused" => Finding.Pass("runstate", "guest", vm.RunState),
        "prelaunch" => Finding.Fail("runstate", "guest", "the VM was started with -S and never continued", "continue it (cont) first"),
        "inmigrate" => Finding.Fail("runstate", "guest", "the VM still waits for its incoming migration", "let it end first"),
        _ => Finding.Fail("runstate", "guest", $"the VM is '{vm.RunState}'", "bring it to 'running' or 'paused' first"),
    };

    private static IEnumerable<Finding> Memory(VmInspection vm)
    {
        if (vm.AnonymousRam > 0)
        {
            yield return Finding.Fail(
                "memory-private", "guest RAM", $"{vm.AnonymousRam >> 20} MiB of guest RAM have no memory backend and are private to the process",
                "start the VM by `cprsharp run`, or with -machine memory-backend=ID and a shared backend");
        }

        foreach (var backend in vm.MemoryBackends)
        {
            yield return backend.Shared
                ? Finding.Pass("memory-backend", backend.Id, $"{backend.Type}, {backend.Size >> 20} MiB, shared")
                : Finding.Fail(
                    "memory-backend", backend.Id, $"{backend.Type}, {backend.Size >> 20} MiB, is not shared", "give it share=on, or start the VM by `cprsharp run`");
        }
    }
}
