using System.Globalization;
using System.Net.Sockets;
using CprSharp.Memfd;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Logs to systemd's journal with what a message speaks of as fields, by journald's native protocol.</summary>
internal sealed class JournalLoggerProvider : ILoggerProvider, ISupportExternalScope
{
    public const string SocketPath = "/run/systemd/journal/socket";

    private readonly UnixDatagram _socket;
    private IExternalScopeProvider _scopes = new LoggerExternalScopeProvider();

    private JournalLoggerProvider(UnixDatagram socket) => _socket = socket;

    /// <summary>Null when no journal listens.</summary>
    public static JournalLoggerProvider? TryCreate(string path = SocketPath)
    {
        try
        {
            return new JournalLoggerProvider(new UnixDatagram(path));
        }
        catch (SocketException)
        {
            return null;
        }
    }

    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    public void SetScopeProvider(IExternalScopeProvider scopeProvider) => _scopes = scopeProvider;

    public void Dispose() => _socket.Dispose();

    private void Send(JournalEntry entry)
    {
        try
        {
            if (_socket.Send(entry.Bytes))
                return;

            // Sealed, or journald would not trust it to stay what it is.
            using var memory = Memfd.Memfd.Create("journal-entry", entry.Bytes.Length);
            RandomAccess.Write((SafeFileHandle)memory, entry.Bytes, 0);
            Memfd.Memfd.AddSeals(memory, Seals.Shrink | Seals.Grow | Seals.Write | Seals.Seal);
            _socket.Send(memory);
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException)
        {
            // A VM does not depend on who reads of it.
        }
    }

    private sealed class Logger(JournalLoggerProvider journal, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => journal._scopes.Push(state);

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            var message = formatter(state, exception);
            var entry = new JournalEntry()
                .Add("MESSAGE", exception is null ? message : $"{message}: {exception.Message}")
                .Add("PRIORITY", Priority(logLevel).ToString(CultureInfo.InvariantCulture))
                .Add("SYSLOG_IDENTIFIER", "cprsharp")
                .AddOwn("Category", category);
            if (eventId.Name is { } name)
                entry.AddOwn("Event", name);
            if (exception is not null)
                entry.AddOwn("Exception", exception.ToString());
            journal._scopes.ForEachScope(AddFields, entry);
            AddFields(state, entry);
            journal.Send(entry);
        }

        private static void AddFields(object? state, JournalEntry entry)
        {
            foreach (var (key, value) in state as IReadOnlyList<KeyValuePair<string, object?>> ?? [])
            {
                if (key != "{OriginalFormat}" && value is not null)
                    entry.AddOwn(key, value is Enum ? value.ToString()!.ToLowerInvariant() : Convert.ToString(value, CultureInfo.InvariantCulture) ?? "");
            }
        }

        /// <summary>As syslog(3) counts.</summary>
        private static int Priority(LogLevel level) => level switch
        {
            LogLevel.Critical => 2,
            LogLevel.Error => 3,
            LogLevel.Warning => 4,
            LogLevel.Information => 6,
            _ => 7,
        };
    }
}
