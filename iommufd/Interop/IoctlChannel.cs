using System.Runtime.InteropServices;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Interop;

/// <summary>A descriptor that takes ioctls: repeats interrupted ones, tells the recorder, and turns errors into exceptions.</summary>
internal sealed class IoctlChannel(SafeFileHandle handle, IOperationRecorder? recorder)
{
    internal SafeFileHandle Handle => handle;

    internal IOperationRecorder? Recorder => recorder;

    /// <summary>Makes a call that changes nothing.</summary>
    internal unsafe void Ask(string ioctl, uint request, void* argument, string target, IovaRange? range = null)
    {
        var errno = Try(request, argument);
        if (errno != 0)
            throw new IommufdException(ioctl, target, range, errno);
    }

    /// <summary>Makes a call that changes something.</summary>
    internal unsafe void Change(string ioctl, uint request, void* argument, string target, IovaRange? range, Operation operation, uint* answer) =>
        Change(ioctl, request, argument, target, range, operation, answer, null);

    /// <summary>Makes a call that changes something.</summary>
    internal unsafe void Change(string ioctl, uint request, void* argument, string target, IovaRange? range, Operation operation, ulong* answer) =>
        Change(ioctl, request, argument, target, range, operation, null, answer);

    /// <summary>Makes a call that changes something and is answered with nothing.</summary>
    internal unsafe void Change(string ioctl, uint request, void* argument, string target, IovaRange? range, Operation operation) =>
        Change(ioctl, request, argument, target, range, operation, null, null);

    /// <summary>Makes a call whose argument is a number and whose result says something.</summary>
    internal unsafe int Query(string ioctl, uint request, nuint argument)
    {
        int result;
        do
            result = LibC.ioctl(handle, request, (void*)argument);
        while (result < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return result >= 0 ? result : throw new IommufdException(ioctl, $"{argument}", null, Marshal.GetLastPInvokeError());
    }

    /// <returns>0, or the error number.</returns>
    internal unsafe int Try(uint request, void* argument)
    {
        while (LibC.ioctl(handle, request, argument) < 0)
        {
            var errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
                return errno;
        }

        return 0;
    }

    /// <summary>Makes a call that changes something; for calls that there are many of, whose messages are written when they are wanted.</summary>
    /// <returns>0, or the error number.</returns>
    internal unsafe int TryChange(uint request, void* argument, Operation operation, ulong* answer) => TryChange(request, argument, operation, null, answer);

    private unsafe void Change(
        string ioctl, uint request, void* argument, string target, IovaRange? range, Operation operation, uint* answer32, ulong* answer64)
    {
        var errno = TryChange(request, argument, operation, answer32, answer64);
        if (errno != 0)
            throw new IommufdException(ioctl, target, range, errno);
    }

    private unsafe int TryChange(uint request, void* argument, Operation operation, uint* answer32, ulong* answer64)
    {
        var sequence = recorder?.Begin(operation) ?? 0;
        var errno = Try(request, argument);
        if (errno != 0)
            recorder?.Failed(sequence, errno);
        else
            recorder?.Done(sequence, answer32 is not null ? *answer32 : answer64 is not null ? *answer64 : 0);
        return errno;
    }
}
