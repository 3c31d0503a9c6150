using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Does something as another user, without capabilities, in this process: to the kernel credentials are a thread's.</summary>
internal static partial class OtherUser
{
    internal const int Nobody = 65534;

    internal static T Run<T>(int user, Func<T> action)
    {
        T? result = default;
        ExceptionDispatchInfo? failure = null;
        // A thread of its own, which ends with its credentials.
        var thread = new Thread(() =>
        {
            try
            {
                Become(user);
                result = action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result!;
    }

    /// <summary>Makes this thread, which must end with it, another user's.</summary>
    internal static void Become(int user)
    {
        var number = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 147 : 117;
        Assert.Equal(0, setresuid(number, user, user, user)); // libc's own call would change every thread
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint setresuid(nint number, nint real, nint effective, nint saved);
}
