namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Decides when a client's command may go to the VMM. During an update commands wait here; none is refused or lost.</summary>
internal sealed class ClientGate
{
    private readonly Lock _lock = new();
    private TaskCompletionSource _changes = Opened();
    private TaskCompletionSource _all = Opened();
    private int _changing;
    private TaskCompletionSource? _drained;

    /// <summary>Waits until the command may pass. Dispose the pass when the command was answered.</summary>
    public async ValueTask<Pass> EnterAsync(bool isChange, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task wait;
            lock (_lock)
            {
                if (_all.Task.IsCompleted && (!isChange || _changes.Task.IsCompleted))
                {
                    if (isChange)
                        _changing++;
                    return new Pass(isChange ? this : null);
                }

                wait = !_all.Task.IsCompleted ? _all.Task : _changes.Task;
            }

            await wait.WaitAsync(cancellationToken);
        }
    }

    /// <summary>No further change begins, and those under way have ended when this returns.</summary>
    public async Task<IDisposable> HoldChangesAsync(CancellationToken cancellationToken)
    {
        Task drained;
        lock (_lock)
        {
            if (!_changes.Task.IsCompleted)
                throw new InvalidOperationException("changes are already held back");
            _changes = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _drained = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            if (_changing == 0)
                _drained.SetResult();
            drained = _drained.Task;
        }

        var hold = new Hold(this);
        try
        {
            await drained.WaitAsync(cancellationToken);
            return hold;
        }
        catch
        {
            hold.Dispose();
            throw;
        }
    }

    /// <summary>No further command begins.</summary>
    public void HoldAll()
    {
        lock (_lock)
        {
            if (_all.Task.IsCompleted)
                _all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>Whether the guest is on its way: the VMMs' own STOP, RESUME and the like are not the guest's.</summary>
    public bool IsHeld => !_all.Task.IsCompleted;

    public void ReleaseAll()
    {
        lock (_lock)
            _all.TrySetResult();
    }

    private void Leave()
    {
        lock (_lock)
        {
            if (--_changing == 0)
                _drained?.TrySetResult();
        }
    }

    private static TaskCompletionSource Opened()
    {
        var source = new TaskCompletionSource();
        source.SetResult();
        return source;
    }

    /// <summary>The right to be at the VMM.</summary>
    public readonly struct Pass(ClientGate? gate) : IDisposable
    {
        public void Dispose() => gate?.Leave();
    }

    private sealed class Hold(ClientGate gate) : IDisposable
    {
        public void Dispose()
        {
            lock (gate._lock)
                gate._changes.TrySetResult();
        }
    }
}
