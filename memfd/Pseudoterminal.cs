using System.Text;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>The master side of a pseudoterminal, raw and non-blocking; others open <see cref="Path"/>.</summary>
public sealed class Pseudoterminal : IDisposable
{
    private const string Multiplexer = "/dev/ptmx";

    private Pseudoterminal(SafeFileHandle master, string path)
    {
        Master = master;
        Path = path;
    }

    /// <summary>The master's descriptor, owned by this object. It hangs up while nobody has the other side open.</summary>
    public SafeFileHandle Master { get; }

    /// <summary>The terminal's name, such as <c>/dev/pts/3</c>.</summary>
    public string Path { get; }

    /// <summary>Makes a pseudoterminal.</summary>
    /// <exception cref="SyscallException">open of /dev/ptmx or of the terminal: ENOSPC, EMFILE.</exception>
    public static Pseudoterminal Open()
    {
        var master = LibC.Open(Multiplexer, LibC.O_RDWR | LibC.O_NOCTTY | LibC.O_NONBLOCK);
        try
        {
            Check(LibC.grantpt(master), "grantpt");
            Check(LibC.unlockpt(master), "unlockpt");
            var path = NameOf(master);

            // Opened and closed once: only then does the master hang up while nobody else has it open.
            using var terminal = LibC.Open(path, LibC.O_RDWR | LibC.O_NOCTTY);
            Span<byte> attributes = stackalloc byte[LibC.TermiosBytes];
            Check(LibC.tcgetattr(terminal, attributes), "tcgetattr");
            LibC.cfmakeraw(attributes);
            Check(LibC.tcsetattr(terminal, LibC.TCSANOW, attributes), "tcsetattr");
            return new Pseudoterminal(master, path);
        }
        catch
        {
            master.Dispose();
            throw;
        }
    }

    /// <summary>The same pseudoterminal, whose master was kept for us by another process.</summary>
    /// <param name="master">Owned by the result; the caller's when this throws.</param>
    /// <exception cref="SyscallException">ptsname_r: ENOTTY when it is not a pseudoterminal's master, EBADF.</exception>
    public static Pseudoterminal FromMaster(SafeFileHandle master) => new(master, NameOf(master));

    /// <inheritdoc/>
    public void Dispose() => Master.Dispose();

    private static string NameOf(SafeFileHandle master)
    {
        Span<byte> name = stackalloc byte[128];
        return LibC.ptsname_r(master, name, (nuint)name.Length) is not 0 and var error
            ? throw new SyscallException("ptsname_r", Multiplexer, error)
            : Encoding.UTF8.GetString(name[..name.IndexOf((byte)0)]);
    }

    private static void Check(int result, string syscall)
    {
        if (result != 0)
            throw SyscallException.FromLastError(syscall, Multiplexer);
    }
}
