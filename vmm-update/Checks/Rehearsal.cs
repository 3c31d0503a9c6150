using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Starts the new binary once on the VM's real command line, with memory of its own and waiting for a state that never comes, and compares what it built.</summary>
/// <remarks>A VMM that waits for its state leaves disk images inactive: it takes no lock and writes nothing (<c>block.c</c>, <c>BDRV_O_INACTIVE</c>).</remarks>
internal static class Rehearsal
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    public static async Task<IReadOnlyList<Finding>> RunAsync(IVmHost host, VmInspection now, QemuBinary target, CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        using var scratch = ScratchDirectory.Create();
        IReadOnlyList<InheritedDescriptor> descriptors = [];
        Vmm? vmm = null;
        try
        {
            descriptors = host.CreateRehearsalDescriptors(scratch.Directory);
            var start = new VmmStart(1, target.Path, [.. host.TargetArguments(target), "-S", "-incoming", "defer"], descriptors) { Detached = true, EndsWithUs = true, Executable = target.Executable };
            vmm = VmmLauncher.Start(start, scratch.Directory);
            await vmm.ConnectAsync(deadline.Token);
            var built = await VmInspector.InspectAsync(vmm, target, deadline.Token);
            return [.. Judge(now, built)];
        }
        catch (VmmExitedException e)
        {
            return
            [
                Finding.Fail(
                    "rehearsal", target.Path, $"does not start on this VM's command line: {e.Message}",
                    "change the VM's command line or choose another binary"),
            ];
        }
        catch (UpdateException e)
        {
            return [Finding.Fail(e.Code, target.Path, e.Message, e.Fix)];
        }
        catch (QmpException e)
        {
            return [Finding.Fail("rehearsal", target.Path, $"{e.Command}: {e.Description}", "choose another binary")];
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return
            [
                Finding.Fail("rehearsal", target.Path, $"did not build the machine within {Deadline.TotalSeconds:0} s", "see whether the binary hangs on this command line"),
            ];
        }
        finally
        {
            if (vmm is not null)
            {
                await vmm.KillAsync();
                await vmm.DisposeAsync();
            }

            foreach (var descriptor in descriptors)
                descriptor.Handle.Dispose();
        }
    }

    private static IEnumerable<Finding> Judge(VmInspection now, VmInspection built)
    {
        var differences = TopologyComparer.Compare(now, built).ToList();
        foreach (var difference in differences)
        {
            yield return Finding.Fail(
                "topology", built.Facts.Path, difference,
                "the machine was changed behind the supervisor's back (for example through the HMP monitor): undo that, or restart the VM");
        }

        if (differences.Count == 0)
        {
            yield return Finding.Pass(
                "topology", built.Facts.Path,
                $"builds the same machine: {built.CpuCount} vCPUs, {built.PciDevices.Length} PCI functions, {built.MemoryBackends.Length} memory backends");
        }

        foreach (var finding in MachineRules.Compare(now, built))
            yield return finding;
    }
}
