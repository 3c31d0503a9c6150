using System.Diagnostics;
using System.Globalization;
using System.IO.Pipes;
using CprSharp.Iommufd;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Bench.Inside;

/// <summary>A process that has a context and can map memory in it.</summary>
internal interface ISide
{
    /// <summary>Whose calls these are, as in <see cref="Timing.By"/>.</summary>
    string By { get; }

    /// <summary>Maps memory in so many areas, side by side.</summary>
    /// <returns>The nanoseconds that it took.</returns>
    double Map(int areas, ulong bytes);

    /// <summary>Makes this process the one that owns what is mapped.</summary>
    /// <returns>The nanoseconds that it took.</returns>
    double TakeOver();
}

/// <summary>This process, with the library.</summary>
internal sealed class LibrarySide(IommufdContext context, IoasId ioas, SafeFileHandle memory) : ISide
{
    private readonly MappableFile _file = MappableFile.Inspect(memory);

    public string By => "library";

    public double Map(int areas, ulong bytes)
    {
        var each = bytes / (ulong)areas;
        var begin = Stopwatch.GetTimestamp();
        for (ulong offset = 0; offset < bytes; offset += each)
            context.MapFile(ioas, _file, offset, each, MapAccess.ReadWrite, IommufdInside.Start + offset);
        return Stopwatch.GetElapsedTime(begin).TotalNanoseconds;
    }

    public double TakeOver()
    {
        var begin = Stopwatch.GetTimestamp();
        context.ChangeProcess();
        return Stopwatch.GetElapsedTime(begin).TotalNanoseconds;
    }
}

/// <summary>The C program <c>iommufd-cost.c</c>, with the same context.</summary>
internal sealed class CSide : ISide, IAsyncDisposable
{
    private readonly AnonymousPipeServerStream _commands = new(PipeDirection.Out);
    private readonly AnonymousPipeServerStream _answers = new(PipeDirection.In);
    private readonly StreamWriter _writer;
    private readonly StreamReader _reader;
    private readonly IoasId _ioas;
    private readonly ChildProcess _process;

    public CSide(string program, IommufdContext context, IoasId ioas, SafeFileHandle memory)
    {
        _ioas = ioas;
        _writer = new StreamWriter(_commands) { AutoFlush = true };
        _reader = new StreamReader(_answers);
        _process = ChildProcess.Start(new ChildProcessStart
        {
            Path = program,
            StandardInput = _commands.ClientSafePipeHandle,
            StandardOutput = _answers.ClientSafePipeHandle,
            Descriptors = [new InheritedDescriptor(context.Handle, 3), new InheritedDescriptor(memory, 4)],
        });
        _commands.DisposeLocalCopyOfClientHandle();
        _answers.DisposeLocalCopyOfClientHandle();
    }

    public string By => "c";

    public double Map(int areas, ulong bytes) =>
        Do(string.Create(CultureInfo.InvariantCulture, $"map {_ioas.Value} {areas} {bytes / (ulong)areas}"));

    public double TakeOver() => Do("take");

    /// <summary>In a context of its own: an address space, so many times map and unmap a page, and no address space any more.</summary>
    public double Calls(int times) => Do(string.Create(CultureInfo.InvariantCulture, $"calls {times}"));

    /// <summary>Ends it, since its input ends. When this returns the kernel has closed all that it had, and its memory is free for others.</summary>
    public async ValueTask DisposeAsync()
    {
        await _writer.DisposeAsync();
        await _process.Exited;
        await _process.DisposeAsync();
        _reader.Dispose();
    }

    private double Do(string command)
    {
        _writer.WriteLine(command);
        var answer = _reader.ReadLine() ?? throw new EndOfStreamException($"iommufd-cost could not '{command}'; it has said why");
        return double.Parse(answer, CultureInfo.InvariantCulture);
    }
}
