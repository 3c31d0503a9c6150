using System.Runtime.InteropServices;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>SIGTERM, SIGINT and SIGHUP: what they do can be said later; they wait for it.</summary>
internal sealed class EndingSignals : IDisposable
{
    private readonly TaskCompletionSource<Func<Task>> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<PosixSignalRegistration> _registrations;

    public EndingSignals() => _registrations =
    [
        .. new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP }.Select(signal => PosixSignalRegistration.Create(signal, context =>
        {
            context.Cancel = true;
            _ = EndAsync();
        })),
    ];

    /// <summary>From here on they do this.</summary>
    public void Set(Func<Task> end) => _end.TrySetResult(end);

    public void Dispose() => _registrations.ForEach(r => r.Dispose());

    private async Task EndAsync() => await (await _end.Task)();
}
