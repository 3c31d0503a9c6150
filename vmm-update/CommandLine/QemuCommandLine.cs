using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>One option of a QEMU command line.</summary>
/// <param name="Name">Without dashes; <c>-m</c> and <c>--m</c> are the same.</param>
/// <param name="Value">Its argument; <see langword="null"/> for an option that takes none.</param>
public sealed record QemuOption(string Name, string? Value)
{
    /// <inheritdoc/>
    public override string ToString() => Value is null ? $"-{Name}" : $"-{Name} {Value}";
}

/// <summary>A QEMU command line, split into options as QEMU splits it.</summary>
public sealed class QemuCommandLine
{
    /// <summary>Creates a command line from its parts.</summary>
    public QemuCommandLine(ImmutableArray<QemuOption> options, ImmutableArray<string> images = default)
    {
        Options = options;
        Images = images.IsDefault ? [] : images;
    }

    /// <summary>The options in the user's order.</summary>
    public ImmutableArray<QemuOption> Options { get; }

    /// <summary>Disk images given without an option, which QEMU takes as <c>-hda</c>.</summary>
    public ImmutableArray<string> Images { get; }

    /// <summary>Splits <c>argv[1..]</c> of a QEMU (7.2 to 11.1, any target).</summary>
    /// <exception cref="CommandLineException">An option that no such QEMU knows, or one that lacks its argument.</exception>
    public static QemuCommandLine Parse(IReadOnlyList<string> argv)
    {
        ArgumentNullException.ThrowIfNull(argv);
        var options = ImmutableArray.CreateBuilder<QemuOption>(argv.Count);
        var images = ImmutableArray.CreateBuilder<string>();
        for (int i = 0; i < argv.Count; i++)
        {
            string argument = argv[i];
            if (argument.Length == 0 || argument[0] != '-')
            {
                images.Add(argument);
                continue;
            }
            string name = argument[(argument.StartsWith("--", StringComparison.Ordinal) ? 2 : 1)..];
            if (!OptionTable.TryGet(name, out bool takesArgument))
                throw new CommandLineException(argument, "QEMU 7.2 to 11.1 have no such option", "remove it, or correct its spelling");
            if (!takesArgument)
                options.Add(new QemuOption(name, null));
            else if (++i < argv.Count)
                options.Add(new QemuOption(name, argv[i]));
            else
                throw new CommandLineException(argument, "the option requires an argument", "add the argument");
        }
        return new QemuCommandLine(options.ToImmutable(), images.ToImmutable());
    }

    /// <summary>The command line as <c>argv[1..]</c>: the options in order, then the images.</summary>
    public IReadOnlyList<string> ToArguments() =>
        [.. Options.SelectMany(static option => Arguments(option.Name, option.Value)), .. Images];

    internal static IEnumerable<string> Arguments(string name, string? value) => value is null ? [$"-{name}"] : [$"-{name}", value];
}
