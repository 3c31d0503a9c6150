using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Keeps all processors of the host from going to sleep, for the few milliseconds of the pause.</summary>
/// <remarks>
/// The pause is a chain of short steps of several processes, each of which wakes the next, so a processor that sleeps in between is paid for
/// once a step. A request for a latency of 0 us lets idle processors poll (kernel, Documentation/power/pm_qos_interface.rst); it ends with
/// the descriptor, so also with the process.
/// </remarks>
internal sealed class WakefulProcessors : IDisposable
{
    private const string Device = "/dev/cpu_dma_latency";

    private readonly SafeFileHandle _request;

    private WakefulProcessors(SafeFileHandle request) => _request = request;

    /// <summary>Null where the kernel has no such device or it is not for us, as for everybody but root.</summary>
    public static WakefulProcessors? TryBegin()
    {
        SafeFileHandle? request = null;
        try
        {
            request = File.OpenHandle(Device, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
            RandomAccess.Write(request, BitConverter.GetBytes(0), 0);
            return new WakefulProcessors(request);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            request?.Dispose();
            return null;
        }
    }

    public void Dispose() => _request.Dispose();
}
