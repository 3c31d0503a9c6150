using System.IO.Pipes;
using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Tests;

/// <summary>This test program itself as another process: it plays one role of a test.</summary>
internal static partial class Children
{
    internal const string Argument = "CPRSHARP_TEST_ROLE_ARGUMENT";

    internal static string RoleArgument => Environment.GetEnvironmentVariable(Argument) ?? "";

    /// <summary>Runs a role to its end and gives what it wrote.</summary>
    internal static async Task<(string Output, ExitStatus Status)> RunAsync(ChildProcessStart start, CancellationToken ct)
    {
        await using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        await using var child = ChildProcess.Start(start with { StandardOutput = pipe.ClientSafePipeHandle });
        pipe.DisposeLocalCopyOfClientHandle();
        using var reader = new StreamReader(pipe);
        var output = await reader.ReadToEndAsync(ct);
        return (output, await child.Exited.WaitAsync(ct));
    }

    /// <param name="type">The class.</param>
    /// <param name="method">A private static method without parameters.</param>
    /// <param name="argument">What <see cref="RoleArgument"/> is there.</param>
    /// <param name="asUser">Run as this user and group, without any capability; null as who runs this.</param>
    /// <param name="descriptors">What it gets.</param>
    internal static ChildProcessStart Role(Type type, string method, string argument, int? asUser, params InheritedDescriptor[] descriptors)
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { [Argument] = argument };
        foreach (System.Collections.DictionaryEntry entry in Environment.GetEnvironmentVariables())
            environment.TryAdd((string)entry.Key, (string)entry.Value!);
        // The framework's directory of temporary files is one per user.
        environment["TMPDIR"] = Path.GetTempPath();
        string[] command = [Environment.ProcessPath!, .. Assembly(), Program.Role, type.FullName!, method];
        string[] user = asUser is { } id ? ["/usr/bin/setpriv", $"--reuid={id}", $"--regid={id}", "--clear-groups", "--inh-caps=-all"] : [];
        string[] all = [.. user, .. command];
        return new ChildProcessStart { Path = all[0], Arguments = all[1..], Environment = environment, Descriptors = descriptors };

        // Under "dotnet exec" the process's program is dotnet, which wants to know the assembly.
        string[] Assembly() => Path.GetFileName(Environment.ProcessPath) == "dotnet" ? ["exec", type.Assembly.Location] : [];
    }

    /// <summary>execve(2): this process goes on as another program.</summary>
    internal static void Execute(ChildProcessStart start)
    {
        string[] arguments = [start.Path, .. start.Arguments];
        string[] environment = [.. start.Environment!.Select(pair => $"{pair.Key}={pair.Value}")];
        _ = execve(start.Path, Vector(arguments), Vector(environment));
        throw SyscallException.FromLastError("execve", start.Path);

        static nint[] Vector(string[] strings) => [.. strings.Select(text => Marshal.StringToCoTaskMemUTF8(text)), 0];
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int execve(string path, nint[] arguments, nint[] environment);
}
