using System.Runtime.InteropServices;

namespace CprSharp.Interop;

internal static partial class ScmRights
{
    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const int MSG_CTRUNC = 0x8;
    private const int MSG_TRUNC = 0x20;
    private const int MSG_DONTWAIT = 0x40;
    private const int MSG_NOSIGNAL = 0x4000;
    private const int MSG_CMSG_CLOEXEC = 0x40000000;
    private const int EINTR = 4;
    private const int EAGAIN = 11;

    private static unsafe partial class LibC
    {
        [LibraryImport("libc", SetLastError = true)]
        internal static partial nint sendmsg(SafeHandle socket, msghdr_t* message, int flags);

        [LibraryImport("libc", SetLastError = true)]
        internal static partial nint recvmsg(SafeHandle socket, msghdr_t* message, int flags);

        [LibraryImport("libc")]
        internal static partial nint strerrorname_np(int errno);

        [StructLayout(LayoutKind.Sequential)]
        internal struct iovec_t
        {
            internal void* iov_base;
            internal nuint iov_len;
        }

        /// <summary>struct msghdr of glibc on LP64.</summary>
        [StructLayout(LayoutKind.Sequential)]
        internal struct msghdr_t
        {
            internal void* msg_name;
            internal uint msg_namelen;
            internal iovec_t* msg_iov;
            internal nuint msg_iovlen;
            internal void* msg_control;
            internal nuint msg_controllen;
            internal int msg_flags;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct cmsghdr_t
        {
            internal nuint cmsg_len;
            internal int cmsg_level;
            internal int cmsg_type;
        }
    }
}
