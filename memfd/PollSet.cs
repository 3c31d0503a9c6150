using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>What a descriptor is waited for, and what was seen of it.</summary>
[Flags]
public enum Readiness
{
    /// <summary>Nothing; a hang-up or an error is seen all the same.</summary>
    None = 0,

    /// <summary>Bytes, a connection, or the end of the stream can be read.</summary>
    Readable = 1,

    /// <summary>Bytes can be written.</summary>
    Writable = 4,

    /// <summary>An error is pending (only seen).</summary>
    Error = 8,

    /// <summary>The other end is gone altogether, not only done with writing (only seen).</summary>
    HangUp = 16,
}

/// <summary>A set of descriptors that one thread waits for (poll(2)), and that others can wake.</summary>
/// <remarks>Filled anew for every wait. Not thread-safe but for <see cref="Wake"/>.</remarks>
public sealed class PollSet : IDisposable
{
    private readonly SafeFileHandle _wake = LibC.Adopt(LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK), "eventfd", subject: null);
    private SafeHandle[] _handles = new SafeHandle[16];
    private LibC.pollfd_t[] _polled = new LibC.pollfd_t[16];
    private int _count;

    /// <summary>Whether a descriptor has hung up, or has an error, now.</summary>
    public static bool HasHungUp(SafeHandle descriptor) => DescriptorPoller.IsReady(descriptor, 0);

    /// <summary>Empties the set.</summary>
    public void Clear()
    {
        Array.Clear(_handles, 0, _count);
        _count = 0;
    }

    /// <summary>Adds a descriptor. One that is added with <see cref="Readiness.None"/> still ends a wait by its hang-up.</summary>
    public void Add(SafeHandle descriptor, Readiness interest)
    {
        if (_count + 1 == _polled.Length)
        {
            Array.Resize(ref _handles, _count * 2);
            Array.Resize(ref _polled, _count * 2);
        }

        _handles[_count] = descriptor;
        _polled[_count] = new LibC.pollfd_t { events = (short)interest };
        _count++;
    }

    /// <summary>Waits until something in the set is ready, or <see cref="Wake"/> was called since the last wait, or the time is over.</summary>
    /// <param name="milliseconds">Longest wait; negative for no limit.</param>
    /// <exception cref="SyscallException">poll: EINVAL (more descriptors than RLIMIT_NOFILE), ENOMEM.</exception>
    public void Wait(int milliseconds)
    {
        var held = 0;
        try
        {
            // Held while they are polled, so that no number can come to mean another file.
            for (; held < _count; held++)
            {
                var added = false;
                _handles[held].DangerousAddRef(ref added);
                _polled[held].fd = (int)_handles[held].DangerousGetHandle();
                _polled[held].revents = 0;
            }

            _polled[_count] = new LibC.pollfd_t { fd = (int)_wake.DangerousGetHandle(), events = LibC.POLLIN };
            int ready;
            do
                ready = LibC.poll(_polled.AsSpan(0, _count + 1), (nuint)(_count + 1), milliseconds);
            while (ready < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
            if (ready < 0)
                throw SyscallException.FromLastError("poll", $"{_count} descriptors");
            if (_polled[_count].revents != 0)
            {
                Span<byte> counter = stackalloc byte[sizeof(ulong)];
                _ = LibC.read(_wake, counter, sizeof(ulong));
            }
        }
        finally
        {
            for (var i = 0; i < held; i++)
                _handles[i].DangerousRelease();
        }
    }

    /// <summary>What the last wait saw of a descriptor; nothing for one that was not in the set.</summary>
    public Readiness Of(SafeHandle descriptor)
    {
        for (var i = 0; i < _count; i++)
        {
            if (ReferenceEquals(_handles[i], descriptor))
                return (Readiness)_polled[i].revents;
        }

        return Readiness.None;
    }

    /// <summary>Ends the wait under way, or the next one. From any thread.</summary>
    public void Wake()
    {
        // EAGAIN is the only failure, and means that a wake-up is pending already.
        _ = LibC.write(_wake, 1, sizeof(ulong));
    }

    /// <inheritdoc/>
    public void Dispose() => _wake.Dispose();
}
