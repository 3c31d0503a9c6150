using System.Runtime.InteropServices;

namespace CprSharp.Qmp.Client;

internal enum CommandProgress
{
    /// <summary>Waiting for its turn; can still be withdrawn.</summary>
    Queued,

    /// <summary>The VMM has it, or part of it.</summary>
    Sent,
}

/// <summary>A command between the call and its reply. Mutable state is guarded by the session's lock.</summary>
internal sealed class PendingCommand : IDisposable
{
    private readonly TaskCompletionSource<QmpReply> _completion;
    private IReadOnlyList<SafeHandle> _descriptors;

    public PendingCommand(long id, string name, byte[] message, bool outOfBand, IReadOnlyList<SafeHandle> descriptors, bool inline)
    {
        Id = id;
        Name = name;
        Message = message;
        OutOfBand = outOfBand;
        _completion = new(inline ? TaskCreationOptions.None : TaskCreationOptions.RunContinuationsAsynchronously);
        _descriptors = Reference(descriptors);
        HasDescriptors = descriptors.Count > 0;
    }

    public long Id { get; }

    public string Name { get; }

    /// <summary>The command with its id and line end.</summary>
    public byte[] Message { get; }

    public bool OutOfBand { get; }

    public bool HasDescriptors { get; }

    public IReadOnlyList<SafeHandle> Descriptors => _descriptors;

    public CommandProgress Progress { get; set; }

    /// <summary>Position in the stream of sent commands.</summary>
    public long SendOrder { get; set; }

    /// <summary>Nobody waits any more; the reply, when it comes, is dropped.</summary>
    public bool Abandoned { get; set; }

    public Task<QmpReply> Task => _completion.Task;

    public void Complete(QmpReply reply) => _completion.TrySetResult(reply);

    public void Fail(Exception cause) => _completion.TrySetException(cause);

    public void Cancel(CancellationToken ct) => _completion.TrySetCanceled(ct);

    /// <summary>Lets go of the descriptors. Not before the output can no longer need them.</summary>
    public void Dispose()
    {
        foreach (var descriptor in Interlocked.Exchange(ref _descriptors, [])) descriptor.DangerousRelease();
    }

    /// <summary>The caller may dispose its handles as soon as its wait ends, which can be before the output has them.</summary>
    private static List<SafeHandle> Reference(IReadOnlyList<SafeHandle> descriptors)
    {
        if (descriptors.Count == 0) return [];
        var referenced = new List<SafeHandle>(descriptors.Count);
        try
        {
            foreach (var descriptor in descriptors)
            {
                var added = false;
                descriptor.DangerousAddRef(ref added);
                referenced.Add(descriptor);
            }

            return referenced;
        }
        catch
        {
            referenced.ForEach(d => d.DangerousRelease());
            throw;
        }
    }
}
