using System.Runtime.CompilerServices;

namespace CprSharp.SystemTests.Harness;

/// <summary>The real things that the tests run on. What is missing fails the test that needs it.</summary>
internal static class Components
{
    public static string Qemu72 => File("CPRSHARP_QEMU_7_2");

    public static string Qemu100 => File("CPRSHARP_QEMU_10_0");

    public static string Qemu111 => File("CPRSHARP_QEMU_11_1");

    public static string QemuImg => File("CPRSHARP_QEMU_IMG");

    public static string GuestKernel => File("CPRSHARP_GUEST_KERNEL");

    public static string GuestInitrd => File("CPRSHARP_GUEST_INITRD");

    public static string GuestAppend => Value("CPRSHARP_GUEST_APPEND");

    public static string VerifyDisk => File("CPRSHARP_VERIFY_DISK");

    /// <summary>A root directory with libvirt.</summary>
    public static string LibvirtRoot => Value("CPRSHARP_LIBVIRT_ROOT");

    /// <summary>Starts a host with libvirt.</summary>
    public static string LibvirtHost => File("CPRSHARP_LIBVIRT_HOST");

    /// <summary>A root directory with systemd and dpkg.</summary>
    public static string ServiceRoot => Value("CPRSHARP_SERVICE_ROOT");

    /// <summary>Starts a host that systemd runs.</summary>
    public static string ServiceHost => File("CPRSHARP_SERVICE_HOST");

    /// <summary>What runs beside QEMU on real hosts: <c>virtiofsd</c>, <c>swtpm</c>, <c>qemu-storage-daemon</c>.</summary>
    public static string Companion(string program) => Path.Combine(Value("CPRSHARP_COMPANIONS"), "bin", program);

    /// <summary>PYTHONPATH of QEMU's own QMP client.</summary>
    public static string PythonQmp => Path.Combine(Value("CPRSHARP_COMPANIONS"), "python");

    /// <summary>Installs what was published.</summary>
    public static string Install => File("CPRSHARP_INSTALL");

    /// <summary>The program under test: the published one where <c>make test</c> says which that is, or else the one beside the tests.</summary>
    public static string CprSharp
    {
        get
        {
            if (Environment.GetEnvironmentVariable("CPRSHARP_TEST_PROGRAM") is { Length: > 0 })
                return File("CPRSHARP_TEST_PROGRAM");
            var program = Path.Combine(AppContext.BaseDirectory, "cprsharp");
            return System.IO.File.Exists(program)
                ? program
                : throw new InvalidOperationException($"{program} is missing: build the test project, which brings the program along");
        }
    }

    /// <summary>A path of this repository's.</summary>
    public static string OfRepository(string path) => Path.Combine(Root(), path);

    private static string Root([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "..", "..", ".."));

    private static string File(string variable)
    {
        var path = Value(variable);
        return System.IO.File.Exists(path)
            ? path
            : throw new InvalidOperationException($"{variable} names {path}, which does not exist; `make components` provides it");
    }

    private static string Value(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value
            ? value
            : throw new InvalidOperationException($"{variable} is not set; run the tests by `make test`, or by `integration-vm/with-components dotnet test …`");
}
