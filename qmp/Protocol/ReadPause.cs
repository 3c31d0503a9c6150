namespace CprSharp.Qmp.Protocol;

/// <summary>Stops a loop where it waits for input, without losing any: the loop waits with <see cref="Token"/> and, cancelled, parks.</summary>
internal sealed class ReadPause : IDisposable
{
    private readonly Lock _gate = new();
    private CancellationTokenSource _asked;
    private CancellationToken _token;
    private TaskCompletionSource _parked = New();
    private TaskCompletionSource _continued = New();
    private bool _ended;

    public ReadPause()
    {
        _asked = new CancellationTokenSource();
        _token = _asked.Token;
    }

    /// <summary>Cancelled while the loop shall not read.</summary>
    public CancellationToken Token
    {
        get
        {
            lock (_gate) return _token;
        }
    }

    public bool IsAsked => Token.IsCancellationRequested;

    /// <summary>Completes when the loop has parked, or has ended.</summary>
    public Task AskAsync()
    {
        // Cancelled elsewhere: what it ends may continue on the thread that cancels.
        lock (_gate) return _ended ? Task.CompletedTask : Task.WhenAll(_asked.CancelAsync(), _parked.Task);
    }

    /// <summary>Called by the loop: completes when it may go on.</summary>
    public Task ParkAsync(CancellationToken ct)
    {
        lock (_gate)
        {
            if (!_token.IsCancellationRequested) return Task.CompletedTask;
            _parked.TrySetResult();
            return _continued.Task.WaitAsync(ct);
        }
    }

    public void Continue()
    {
        TaskCompletionSource continued;
        lock (_gate)
        {
            if (_ended || !_token.IsCancellationRequested) return;
            _asked.Dispose();
            _asked = new CancellationTokenSource();
            _token = _asked.Token;
            _parked = New();
            (continued, _continued) = (_continued, New());
        }

        continued.SetResult();
    }

    /// <summary>The loop is over: there is nothing to wait for.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_ended) return;
            _ended = true;
            _asked.Dispose();
            _parked.TrySetResult();
        }
    }

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
