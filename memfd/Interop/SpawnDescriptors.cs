using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd.Interop;

/// <summary>Turns "this handle under that number" into file actions, and holds what they refer to until the child runs.</summary>
internal sealed unsafe class SpawnDescriptors : IDisposable
{
    private readonly SortedDictionary<int, SafeFileHandle> _sources = [];
    private readonly SafeFileHandle? _workingDirectory;
    private readonly int _highest;

    internal SpawnDescriptors(ChildProcessStart start)
    {
        _highest = start.Descriptors.Select(d => d.Number).Append(2).Max();
        try
        {
            if (start.WorkingDirectory is { } directory)
            {
                // Opened here, so that a missing directory is told apart from a missing program.
                using var opened = LibC.Open(directory, LibC.O_PATH | LibC.O_DIRECTORY);
                _workingDirectory = LibC.Duplicate(opened, _highest + 1);
            }

            AddStandard(start);
            foreach (var (handle, number) in start.Descriptors)
                Add(handle, number);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        _workingDirectory?.Dispose();
        foreach (var source in _sources.Values)
            source.Dispose();
    }

    internal void AddTo(void* actions)
    {
        if (_workingDirectory is not null)
            Spawner.Check(LibC.posix_spawn_file_actions_addfchdir_np(actions, _workingDirectory));
        for (var number = 0; number <= _highest; number++)
        {
            if (_sources.TryGetValue(number, out var source))
                Spawner.Check(LibC.posix_spawn_file_actions_adddup2(actions, source, number));
            else if (number > 2)
                Spawner.Check(LibC.posix_spawn_file_actions_addclose(actions, number));
        }

        Spawner.Check(LibC.posix_spawn_file_actions_addclosefrom_np(actions, _highest + 1));
    }

    private void AddStandard(ChildProcessStart start)
    {
        if (start.StandardInput is { } input)
        {
            Add(input, 0);
        }
        else
        {
            using var nothing = LibC.Open("/dev/null", LibC.O_RDONLY);
            Add(nothing, 0);
        }

        if (start.StandardOutput is { } output)
            Add(output, 1);
        if (start.StandardError is { } error)
            Add(error, 2);
    }

    /// <summary>A source above every target: no dup2 in the child can overwrite another's source.</summary>
    private void Add(SafeHandle handle, int number) => _sources.Add(number, LibC.Duplicate(handle, _highest + 1));
}
