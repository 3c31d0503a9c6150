using System.Net.Sockets;
using System.Text;
using CprSharp.VmmUpdate.Hosting;
using Microsoft.Extensions.Logging;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Hosting;

public sealed class JournalTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"cprsj-{Guid.NewGuid():N}"[..16]);
    private readonly Socket _journal = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);

    public JournalTests() => _journal.Bind(new UnixDomainSocketEndPoint(_path));

    [Fact]
    public void What_a_message_speaks_of_are_fields()
    {
        using var factory = Factory();
        var logger = factory.CreateLogger("cprsharp");

        using (logger.BeginScope("VM {Vm}", "web1"))
            logger.Log(LogLevel.Warning, new EventId(1, "Ended"), "pause {PauseMs} ms by {Engine}, {Nothing}", 1.5, "transfer", null);

        var lines = Received().Split('\n');
        Assert.Contains("MESSAGE=pause 1.5 ms by transfer, (null)", lines);
        Assert.Contains("PRIORITY=4", lines);
        Assert.Contains("SYSLOG_IDENTIFIER=cprsharp", lines);
        Assert.Contains("CPRSHARP_VM=web1", lines);
        Assert.Contains("CPRSHARP_EVENT=Ended", lines);
        Assert.Contains("CPRSHARP_PAUSE_MS=1.5", lines);
        Assert.Contains("CPRSHARP_ENGINE=transfer", lines);
        Assert.DoesNotContain(lines, l => l.StartsWith("CPRSHARP_NOTHING", StringComparison.Ordinal));
    }

    [Fact]
    public void A_value_of_several_lines_cannot_pretend_to_be_fields()
    {
        using var factory = Factory();
        factory.CreateLogger("cprsharp").Log(LogLevel.Information, "{Why}", "äh\nPRIORITY=0");

        var text = Received();
        Assert.Contains("MESSAGE\n\u000e\0\0\0\0\0\0\0äh\nPRIORITY=0\n", text, StringComparison.Ordinal);
        Assert.Contains("CPRSHARP_WHY\n\u000e\0\0\0\0\0\0\0äh\nPRIORITY=0\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_too_large_for_a_datagram_comes_as_a_file()
    {
        using var factory = Factory();
        factory.CreateLogger("cprsharp").Log(LogLevel.Information, "{Why}", new string('x', 1 << 22));

        // A datagram of no bytes, with which the descriptor came.
        Assert.Equal("", Received());
    }

    [Fact]
    public void A_journal_that_does_not_read_holds_nobody_up()
    {
        using var factory = Factory();
        var logger = factory.CreateLogger("cprsharp");
        for (var i = 0; i < 2000; i++)
            logger.Log(LogLevel.Information, "{I}", i);

        Assert.Contains("MESSAGE=0\n", Received(), StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_journal_there_is_no_provider() => Assert.Null(JournalLoggerProvider.TryCreate(_path + ".not"));

    public void Dispose()
    {
        _journal.Dispose();
        File.Delete(_path);
    }

    private ILoggerFactory Factory() => LoggerFactory.Create(l => l.AddProvider(JournalLoggerProvider.TryCreate(_path)!));

    private string Received()
    {
        var buffer = new byte[1 << 16];
        return Encoding.UTF8.GetString(buffer, 0, _journal.Receive(buffer));
    }
}
