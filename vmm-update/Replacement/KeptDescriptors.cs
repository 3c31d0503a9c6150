using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>Descriptors that are to outlive the exec, held open until it is made or given up.</summary>
internal sealed class KeptDescriptors : IDisposable
{
    private readonly List<SafeHandle> _handles = [];
    private readonly HashSet<int> _numbers = [];

    public IReadOnlyCollection<int> Numbers => _numbers;

    /// <returns>Its number.</returns>
    public int Keep(SafeHandle handle)
    {
        var added = false;
        handle.DangerousAddRef(ref added);
        _handles.Add(handle);
        var number = (int)handle.DangerousGetHandle();
        _numbers.Add(number);
        return number;
    }

    /// <summary>One that nobody here owns: the supervisor was started with it.</summary>
    public void Keep(int number)
    {
        if (File.Exists($"/proc/self/fd/{number}") || Directory.Exists($"/proc/self/fd/{number}"))
            _numbers.Add(number);
    }

    public void Dispose()
    {
        foreach (var handle in _handles)
            handle.DangerousRelease();
        _handles.Clear();
    }

    /// <summary>On the other side of the exec: the socket of that number.</summary>
    public static System.Net.Sockets.Socket TakeSocket(int number)
    {
        using var descriptor = ProgramReplacement.Take(number);
        var socket = new System.Net.Sockets.Socket(new System.Net.Sockets.SafeSocketHandle(descriptor.DangerousGetHandle(), ownsHandle: true));
        descriptor.SetHandleAsInvalid();
        return socket;
    }
}
