namespace CprSharp.Memfd.Interop;

/// <summary>The thread that a child's death signal hangs on: "the parent" is the thread that created the child (PR_SET_PDEATHSIG(2const)).</summary>
internal static class ParentThread
{
    private static readonly string[] Places = ["/usr/bin/setpriv", "/bin/setpriv", "/usr/sbin/setpriv"];

    /// <summary>The same child, which asks for the signal before it becomes the program. Its argv[0] is the path: setpriv knows no other.</summary>
    internal static ChildProcessStart EndingWithUs(ChildProcessStart start)
    {
        var setpriv = Array.Find(Places, File.Exists)
            ?? throw new SyscallException("posix_spawn", "setpriv", Errno.ENOENT, "install util-linux: its setpriv asks for the signal that ends a child with its parent");
        return start with
        {
            Argv0 = null,
            Path = setpriv,
            Arguments = ["--pdeathsig", "KILL", "--", Path.GetFullPath(start.Path), .. start.Arguments],
        };
    }

    /// <summary>Starts a child on a thread that lives for as long as the child does.</summary>
    internal static ChildProcess Start(Func<ChildProcess> start)
    {
        var started = new TaskCompletionSource<ChildProcess>(TaskCreationOptions.RunContinuationsAsynchronously);
        new Thread(Run, maxStackSize: 256 << 10) { IsBackground = true, Name = "parent" }.Start();
        return started.Task.GetAwaiter().GetResult();

        void Run()
        {
            try
            {
                var child = start();
                started.SetResult(child);
                child.Exited.Wait();
            }
            catch (Exception e) when (!started.Task.IsCompleted)
            {
                started.SetException(e);
            }
        }
    }
}
