using System.Text.Json;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Tells the process that started a background supervisor that it serves, or why it could not. One document, then the pipe closes.</summary>
internal sealed class ReadySignal : IDisposable
{
    private readonly FileStream _pipe;

    private ReadySignal(FileStream pipe) => _pipe = pipe;

    public static ReadySignal? From(int? descriptor) =>
        descriptor is { } number ? new ReadySignal(new FileStream(new SafeFileHandle(number, ownsHandle: true), FileAccess.Write)) : null;

    public void Ready() => _pipe.Dispose();

    public void Failed(Exception exception)
    {
        if (!_pipe.CanWrite)
            return;
        var error = exception is UpdateException e ? new ReportError(e.Code, e.Message, e.Fix) : new ReportError("failed", exception.Message, "");
        using (_pipe)
            JsonSerializer.Serialize(_pipe, new ErrorDocument(1, error), ReportJson.Default.ErrorDocument);
    }

    public void Dispose() => _pipe.Dispose();
}
