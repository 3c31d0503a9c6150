using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp.Server;

/// <summary>One piece of input: a request, or an answer that is fixed already because the input was no request.</summary>
internal sealed class Incoming(byte[] line, Request request, QmpReply? answer)
{
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public byte[] Line => line;

    public Request Request => request;

    /// <summary>Set when no handler is to be asked.</summary>
    public QmpReply? Answer { get; set; } = answer;

    public QmpDescriptors Descriptors { get; set; } = new([]);

    public ReadOnlySpan<byte> Id => request.Id is { } id ? line.AsSpan()[id] : [];

    public Task Done => _done.Task;

    /// <summary>Called when it is done with.</summary>
    public Action? Finished { get; set; }

    public static Incoming Refused(string description) => new([], default, QmpReply.Error(QmpErrorClass.GenericError, description));

    public void Finish()
    {
        Descriptors.Dispose();
        Finished?.Invoke();
        _done.TrySetResult();
    }
}
