using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd.Interop;

/// <summary>
/// Readiness of descriptors that the framework cannot await (pidfds, a full socket): one background thread in poll(2) for the whole
/// process, started by the first wait. It sleeps in the kernel; an eventfd wakes it when waits are added or cancelled.
/// </summary>
internal sealed class DescriptorPoller
{
    private static readonly Lazy<DescriptorPoller> LazyShared = new(() => new DescriptorPoller());

    private readonly Lock _gate = new();
    private readonly SafeFileHandle _wake =
        LibC.Adopt(LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK), "eventfd", subject: null);

    private List<Wait> _added = [];

    private DescriptorPoller()
    {
        new Thread(Run, maxStackSize: 256 * 1024) { IsBackground = true, Name = "descriptor poller" }.Start();
    }

    internal static DescriptorPoller Shared => LazyShared.Value;

    /// <summary>Whether one of the events (or an error or hang-up) is there now.</summary>
    internal static bool IsReady(SafeHandle descriptor, short events)
    {
        var added = false;
        descriptor.DangerousAddRef(ref added);
        try
        {
            Span<LibC.pollfd_t> one = [new LibC.pollfd_t { fd = (int)descriptor.DangerousGetHandle(), events = events }];
            return Poll(one, timeoutMilliseconds: 0) > 0;
        }
        finally
        {
            descriptor.DangerousRelease();
        }
    }

    /// <summary>Completes when one of the events is there. The descriptor is kept open until then, even when it is disposed meanwhile.</summary>
    internal Task WaitAsync(SafeHandle descriptor, short events, CancellationToken ct)
    {
        if (ct.IsCancellationRequested)
            return Task.FromCanceled(ct);
        var wait = new Wait(descriptor, events);
        lock (_gate)
            _added.Add(wait);
        wait.Cancellation = ct.Register(() =>
        {
            wait.Cancel(ct);
            Wake();
        });
        Wake();
        return wait.Task;
    }

    private static int Poll(Span<LibC.pollfd_t> descriptors, int timeoutMilliseconds)
    {
        int ready;
        do
            ready = LibC.poll(descriptors, (nuint)descriptors.Length, timeoutMilliseconds);
        while (ready < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return ready >= 0 ? ready : throw SyscallException.FromLastError("poll", $"{descriptors.Length} descriptors");
    }

    private void Wake()
    {
        // EAGAIN is the only failure, and means that a wake-up is pending already.
        _ = LibC.write(_wake, 1, sizeof(ulong));
    }

    private void Run()
    {
        var waits = new List<Wait>();
        Span<byte> counter = stackalloc byte[sizeof(ulong)];
        while (true)
        {
            TakeAdded(waits);
            waits.RemoveAll(wait => wait.ReleaseIfDone());

            var polled = new LibC.pollfd_t[waits.Count + 1];
            polled[0] = new LibC.pollfd_t { fd = (int)_wake.DangerousGetHandle(), events = LibC.POLLIN };
            for (var i = 0; i < waits.Count; i++)
                polled[i + 1] = new LibC.pollfd_t { fd = waits[i].Number, events = waits[i].Events };

            Poll(polled, timeoutMilliseconds: -1);
            if (polled[0].revents != 0)
                _ = LibC.read(_wake, counter, sizeof(ulong));
            for (var i = 0; i < waits.Count; i++)
            {
                if (polled[i + 1].revents != 0)
                    waits[i].Complete();
            }
        }
    }

    private void TakeAdded(List<Wait> waits)
    {
        lock (_gate)
        {
            waits.AddRange(_added);
            _added = [];
        }
    }

    private sealed class Wait
    {
        private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly SafeHandle _descriptor;

        internal Wait(SafeHandle descriptor, short events)
        {
            var added = false;
            descriptor.DangerousAddRef(ref added);
            _descriptor = descriptor;
            Number = (int)descriptor.DangerousGetHandle();
            Events = events;
        }

        internal int Number { get; }

        internal short Events { get; }

        internal Task Task => _completion.Task;

        internal CancellationTokenRegistration Cancellation { get; set; }

        internal void Complete() => _completion.TrySetResult();

        internal void Cancel(CancellationToken ct) => _completion.TrySetCanceled(ct);

        /// <summary>Only the poller's thread lets go of the number, so it cannot be reused while it is polled.</summary>
        internal bool ReleaseIfDone()
        {
            if (!Task.IsCompleted)
                return false;
            Cancellation.Unregister();
            _descriptor.DangerousRelease();
            return true;
        }
    }
}
