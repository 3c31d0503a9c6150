namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>A <see cref="VmSpec"/> in the making; each translation changes its own part of it.</summary>
internal sealed class SpecDraft : TranslationNotes
{
    private readonly SortedSet<int> _usedNumbers = [];
    private readonly SortedSet<int> _inherited = [];
    private int _nextNumber;

    public SpecDraft(IEnumerable<SpecOption> options, BinaryFacts facts, LaunchSettings settings)
    {
        Options = [.. options];
        Facts = facts;
        Settings = settings;
        _nextNumber = settings.FirstDescriptor;
        foreach (SpecOption option in Options)
        {
            _usedNumbers.UnionWith(DescriptorNumbers.Mentioned(option));
            _inherited.UnionWith(DescriptorNumbers.Mentioned(option).Where(static number => number > 2));
        }
    }

    public BinaryFacts Facts { get; }

    public LaunchSettings Settings { get; }

    public List<SpecOption> Options { get; private set; }

    public List<HeldDescriptor> Descriptors { get; } = [];

    public List<ClientSocket> ClientSockets { get; } = [];

    public List<string> AddedMachineProperties { get; } = [];

    public string MachineType { get; set; } = "";

    public bool Daemonize { get; set; }

    public string? PidFile { get; set; }

    public IEnumerable<SpecOption> Named(params string[] names) => Options.Where(option => names.Contains(option.Name, StringComparer.Ordinal));

    public bool HasOption(string name) => Options.Exists(option => option.Name.Is(name));

    /// <summary>Replaces options: by what <paramref name="change"/> returns, which is the option itself where nothing is to change.</summary>
    public void Rewrite(Func<SpecOption, IEnumerable<SpecOption>> change) => Options = [.. Options.SelectMany(change)];

    public int TakeNumber()
    {
        while (_usedNumbers.Contains(_nextNumber))
            _nextNumber++;
        return _nextNumber++;
    }

    /// <summary>A descriptor of the caller's that is not handed on as it is.</summary>
    public void TakeInherited(int number) => _inherited.Remove(number);

    public VmSpec ToSpec() => new()
    {
        MachineType = MachineType,
        Options = [.. Options],
        Descriptors = [.. Descriptors],
        InheritedDescriptors = [.. _inherited],
        ClientSockets = [.. ClientSockets],
        AfterCommit = [.. AfterCommit],
        Changes = [.. Changes],
        Findings = [.. Findings],
        AddedMachineProperties = [.. AddedMachineProperties],
        Daemonize = Daemonize,
        PidFile = PidFile,
    };
}
