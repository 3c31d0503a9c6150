using System.IO.Enumeration;
using System.Security.Cryptography;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Which programs may become a VM's VMM, by <see cref="SecurityOptions"/>.</summary>
internal sealed class BinaryPolicy(SecurityOptions options)
{
    public const string NotAllowed = "binary-not-allowed";

    public const string WrongHash = "binary-hash";

    /// <summary>Opens a binary that may be used.</summary>
    /// <returns>The very file that was looked at, to be executed; null when nothing is asked of it but its path.</returns>
    /// <exception cref="UpdateException">It may not be used: not allowed, or its content is not what it should be.</exception>
    public SafeFileHandle? Open(string path)
    {
        var real = RealPath(path);
        if (options.Binaries.Count > 0 && !options.Binaries.Any(b => Matches(b, real)))
        {
            throw new UpdateException(
                NotAllowed, $"{path}{(real == path ? "" : $" ({real})")} is not among the binaries that the setting Security:Binaries allows: {string.Join(", ", options.Binaries)}",
                $"choose one of those, or extend the setting in {Settings.File}")
            {
                IsRefusal = true,
            };
        }

        var wanted = options.Sha256.Where(p => p.Key == path || p.Key == real).Select(p => p.Value).ToArray();
        if (wanted.Length == 0 || !File.Exists(real))
            return null;
        SafeFileHandle file;
        try
        {
            file = File.OpenHandle(real);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UpdateException(WrongHash, $"{real} cannot be read, to compare its SHA-256: {e.Message}", "let the supervisor's user read it", e) { IsRefusal = true };
        }

        try
        {
            using var stream = new FileStream(new SafeFileHandle(file.DangerousGetHandle(), ownsHandle: false), FileAccess.Read);
            var found = Convert.ToHexStringLower(SHA256.HashData(stream));
            if (Array.Find(wanted, w => !string.Equals(w, found, StringComparison.OrdinalIgnoreCase)) is { } other)
            {
                throw new UpdateException(
                    WrongHash, $"{real} has SHA-256 {found}; the setting Security:Sha256 says {other}", $"install the right binary, or correct the setting in {Settings.File}")
                {
                    IsRefusal = true,
                };
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Whether a path is one of those that an entry means.</summary>
    internal static bool Matches(string entry, string path)
    {
        if (entry.EndsWith('/'))
            return path.StartsWith(entry, StringComparison.Ordinal);
        var (wanted, names) = (entry.Split('/'), path.Split('/'));
        return wanted.Length == names.Length && wanted.Zip(names).All(p => p.First == p.Second || FileSystemName.MatchesSimpleExpression(p.First, p.Second, ignoreCase: false));
    }

    /// <summary>Where a path leads to, all symbolic links on its way followed; the path itself where it leads nowhere.</summary>
    internal static string RealPath(string path)
    {
        var done = "/";
        var rest = new Stack<string>(Path.GetFullPath(path).Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse());
        for (var links = 0; rest.TryPop(out var name);)
        {
            if (name == "..")
            {
                done = Path.GetDirectoryName(done) ?? "/";
                continue;
            }

            var next = Path.Combine(done, name);
            if (name == "." || new FileInfo(next).LinkTarget is not { } target)
            {
                done = name == "." ? done : next;
                continue;
            }

            if (++links > 40) // as the kernel: MAXSYMLINKS
                return path;
            if (target.StartsWith('/'))
                done = "/";
            foreach (var part in target.Split('/', StringSplitOptions.RemoveEmptyEntries).Reverse())
                rest.Push(part);
        }

        return done;
    }
}
