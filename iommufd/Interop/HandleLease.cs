using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary>Keeps a descriptor open while its number is in a structure that the kernel reads.</summary>
internal ref struct HandleLease
{
    private readonly SafeHandle _handle;
    private bool _held;

    internal HandleLease(SafeHandle handle)
    {
        ArgumentNullException.ThrowIfNull(handle);
        _handle = handle;
        handle.DangerousAddRef(ref _held);
    }

    internal readonly int Number => (int)_handle.DangerousGetHandle();

    public void Dispose()
    {
        if (!_held)
            return;
        _held = false;
        _handle.DangerousRelease();
    }
}
