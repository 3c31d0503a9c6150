using System.IO.Pipes;

namespace CprSharp.Memfd.Tests;

/// <summary>Real children: programs of the system, and this test program itself.</summary>
internal static class Children
{
    internal const int SIGTERM = 15;
    internal const int SIGKILL = 9;

    internal static readonly ChildProcessStart Sleep = new() { Path = "/bin/sleep", Arguments = ["1000"] };

    internal static ChildProcessStart Shell(string script) => new() { Path = "/bin/sh", Arguments = ["-c", script] };

    /// <summary>Runs a child to its end and gives what it wrote to its standard output.</summary>
    internal static async Task<(string Output, ExitStatus Status)> RunAsync(ChildProcessStart start, CancellationToken ct)
    {
        await using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        await using var child = ChildProcess.Start(start with { StandardOutput = pipe.ClientSafePipeHandle });
        pipe.DisposeLocalCopyOfClientHandle();
        using var reader = new StreamReader(pipe);
        var output = await reader.ReadToEndAsync(ct);
        return (output, await child.Exited.WaitAsync(ct));
    }

    /// <summary>Starts this test program to run one explicit test, which is the child's part of another test.</summary>
    internal static ChildProcessStart Role(Type type, string method, string? argument = null, params InheritedDescriptor[] descriptors)
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { [RoleArgument.Variable] = argument ?? "" };
        foreach (System.Collections.DictionaryEntry entry in Environment.GetEnvironmentVariables())
            environment.TryAdd((string)entry.Key, (string)entry.Value!);
        return new ChildProcessStart
        {
            Path = Path.ChangeExtension(type.Assembly.Location, null),
            Arguments = ["-method", $"{type.FullName}.{method}", "-explicit", "only", "-noLogo", "-noColor"],
            Environment = environment,
            Descriptors = descriptors,
        };
    }
}

internal static class RoleArgument
{
    internal const string Variable = "CPRSHARP_TEST_ROLE_ARGUMENT";

    internal static string Value => Environment.GetEnvironmentVariable(Variable) ?? "";
}
