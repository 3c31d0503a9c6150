namespace CprSharp.SystemTests.Harness;

/// <summary>One VM for the tests of a class, with short deadlines; started anew only when a test has left it broken, or wants it otherwise.</summary>
public sealed class SharedVm : IAsyncDisposable
{
    private TestHost? _host;
    private TestVm? _vm;
    private bool _guardian;
    private int _pauseMs;

    /// <summary>The supervisor's descriptors after it has done everything once.</summary>
    internal IReadOnlyDictionary<string, int> Descriptors { get; private set; } = new Dictionary<string, int>(StringComparer.Ordinal);

    /// <summary>A pause that a test has to find in time.</summary>
    internal const int LongPauseMs = 8000;

    private const int ShortPauseMs = 1500;

    internal static IReadOnlyDictionary<string, string> Environment(bool guardian, int pauseMs = ShortPauseMs) => new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["CPRSHARP__Update__PrepareDeadlineSeconds"] = "8",
        ["CPRSHARP__Update__PauseDeadlineMs"] = $"{pauseMs}",
        ["CPRSHARP__Update__RollbackDeadlineSeconds"] = "4",
        ["CPRSHARP__Update__Guardian"] = guardian ? "true" : "false",
    };

    /// <summary>The VM, running and whole.</summary>
    internal async Task<TestVm> ReadyAsync(bool guardian = true, int pauseMs = ShortPauseMs)
    {
        if (_vm is null || (_guardian, _pauseMs) != (guardian, pauseMs) || !await IsWholeAsync(_vm))
        {
            await EndAsync();
            _host = new TestHost();
            _vm = await TestVm.StartAsync(_host, "shared", [Components.Qemu111, .. TestVm.Bare], Environment(guardian, pauseMs));
            (_guardian, _pauseMs) = (guardian, pauseMs);

            // What the first update makes once and keeps is no leak.
            await _vm.UpdateAsync(Components.Qemu111, "transfer");
            await _vm.UpdateAsync(Components.Qemu111, "shared-ram");
            await _vm.ExpectOneRunningVmmAsync();
            Descriptors = _vm.SupervisorDescriptors();
        }

        return _vm;
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            if (_vm is not null && await IsWholeAsync(_vm))
            {
                await _vm.QuitAsync();
                await _vm.Host.ExpectNothingLeftAsync();
            }
        }
        finally
        {
            await EndAsync();
        }
    }

    private async Task EndAsync()
    {
        if (_host is not null)
            await _host.DisposeAsync();
        _host = null;
        _vm = null;
    }

    private static async Task<bool> IsWholeAsync(TestVm vm)
    {
        try
        {
            await vm.ExpectOneRunningVmmAsync(TimeSpan.FromSeconds(2));
            return true;
        }
        catch (Exception e) when (e is IOException or TimeoutException or Xunit.Sdk.XunitException)
        {
            return false;
        }
    }
}
