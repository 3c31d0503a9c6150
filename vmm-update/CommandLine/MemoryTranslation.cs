using System.Text.RegularExpressions;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Guest RAM on memfds that the supervisor holds.</summary>
/// <remarks>
/// Every backend becomes a <c>memory-backend-file</c> with <c>share=on</c> on <c>/proc/self/fd/N</c>: the one kind that both a cpr
/// transfer and an ordinary migration with <c>x-ignore-shared</c> leave in place. RAM block names stay those of the user's own
/// command line: a block is named by its backend's id, except that machine types up to 3.1 give file and memfd backends their
/// whole path (hw_compat_3_1 in hw/core/machine.c); default RAM and ram backends never had that, so it is switched off for them.
/// </remarks>
internal static partial class MemoryTranslation
{
    private const string RamBlockByPath = "x-use-canonical-path-for-ramblock-id";
    private const string Prefix = "memory-backend-";
    private const long RamGranularity = 8192;

    public static void Apply(SpecDraft draft)
    {
        OptionString machine = MachineTranslation.Merge(draft.Options.Where(MachineTranslation.IsMachine));
        string? memoryPath = draft.Named("mem-path").LastOrDefault()?.Value;
        if (memoryPath is not null && machine.Has("memory-backend"))
        {
            throw new CommandLineException($"-mem-path {memoryPath}", "QEMU does not take it together with -machine memory-backend=",
                "put mem-path= on the memory backend instead");
        }
        HashSet<string> persistent = PersistentBackends(draft);
        draft.Rewrite(option => option.Name switch
        {
            "object" => [Convert(draft, option, persistent)],
            "mem-path" => [],
            // The pages are there when an update's target starts.
            "mem-prealloc" => [option with { Scope = OptionScope.FirstStart }],
            _ => [option],
        });
        if (!machine.Has("memory-backend") && !UsesNumaBackends(draft) && draft.Facts.DefaultRamId is { } id)
            AddDefaultRam(draft, machine, id, memoryPath);
    }

    /// <summary>RAM size in bytes as QEMU computes it from <c>-m</c> and <c>-machine memory.size=</c>.</summary>
    public static long RamSize(IEnumerable<SpecOption> options, OptionString machine, long defaultSize)
    {
        long? size = null;
        foreach (SpecOption option in options.Where(static option => option.Name.Is("m")))
        {
            // In QEMU a number that ends in a digit is in MiB, and 0 means the default.
            if (OptionString.Parse(option, "size")["size"] is { } text)
                size = QemuSize.Parse(text, 'M', option.ToString());
        }
        if (size is null && machine["memory.size"] is { } fromMachine)
            size = QemuSize.Parse(fromMachine, 'B', $"-machine memory.size={fromMachine}");
        long wanted = size is null or 0 ? defaultSize : size.Value;
        return (wanted + RamGranularity - 1) / RamGranularity * RamGranularity;
    }

    private static void AddDefaultRam(SpecDraft draft, OptionString machine, string id, string? memoryPath)
    {
        long size = RamSize(draft.Options, machine, draft.Facts.DefaultRamSize);
        long? hugePage = memoryPath is null ? null : HugePageOf(draft, memoryPath, $"-mem-path {memoryPath}");
        int number = Hold(draft, id, size, hugePage);
        OptionString backend = OnDescriptor(OptionString.Parse("memory-backend-file", "qom-type").With("id", id), number, size).With(RamBlockByPath, false);
        int at = draft.Options.FindIndex(MachineTranslation.IsMachine);
        draft.Options.Insert(at + 1, new SpecOption("object", backend.ToString()));
        MachineTranslation.Update(draft, options => options.With("memory-backend", id));
        draft.Change(memoryPath is null
            ? $"RAM ({id}, {QemuText.Number(size)} bytes) is on shared memory that the supervisor holds; the host's same-page merging does not apply to it."
            : $"RAM ({id}, {QemuText.Number(size)} bytes) is on shared memory that the supervisor holds, in place of -mem-path {memoryPath}{(hugePage is null ? "" : ", with huge pages of the same size")}.");
    }

    private static SpecOption Convert(SpecDraft draft, SpecOption option, HashSet<string> persistent)
    {
        OptionString backend = OptionString.Parse(option, "qom-type");
        string type = backend["qom-type"] ?? "";
        if (!type.Begins(Prefix))
            return option;
        string id = backend["id"] ?? throw new CommandLineException(option.ToString(), "a memory backend needs an id", "add id=NAME");
        return type[Prefix.Length..] switch
        {
            "ram" => OnMemfd(draft, option, backend, id, null, backend.Has(RamBlockByPath) ? backend : backend.With(RamBlockByPath, false)),
            "memfd" => OnMemfd(draft, option, backend, id, HugePageOf(draft, backend, option), backend.Without("hugetlb", "hugetlbsize", "seal")),
            "shm" => OnMemfd(draft, option, backend, id, null, backend),
            "file" => ConvertFile(draft, option, backend, id, persistent.Contains(id)),
            _ => Refuse(draft, option, id, type),
        };
    }

    private static SpecOption ConvertFile(SpecDraft draft, SpecOption option, OptionString backend, string id, bool persistent)
    {
        string path = backend["mem-path"]
            ?? throw new CommandLineException(option.ToString(), "memory-backend-file needs a mem-path", "add mem-path=FILE");
        bool shared = backend.GetSwitch("share") == true;
        HostPath host = draft.Settings.DescribePath(path);
        bool directory = host.Kind == HostPathKind.Directory || (host.Kind == HostPathKind.Unknown && LooksLikeDirectory().IsMatch(path));
        if (directory || (host.Kind == HostPathKind.Missing && !shared && !persistent))
        {
            // QEMU makes a file of its own there and unlinks it: another process could not open it.
            OptionString anonymous = backend.Without("offset", "pmem", "discard-data", "readonly", "rom");
            return OnMemfd(draft, option, backend, id, HugePageOf(draft, path, option.ToString()), anonymous);
        }
        if (!shared)
        {
            draft.Fail("private-file", id, $"memory-backend-file on {path} is private to one process (share=off)",
                "add share=on: what the guest writes then goes to the file");
            return option;
        }
        if (backend.GetSwitch("discard-data") == true)
        {
            draft.Change($"discard-data=on was taken off {id}: the old VMM would throw the guest's memory away when it exits.");
            backend = backend.Without("discard-data");
        }
        return WithoutPreallocationOnTarget(option, backend);
    }

    private static SpecOption OnMemfd(SpecDraft draft, SpecOption option, OptionString original, string id, long? hugePage, OptionString rest)
    {
        long size = QemuSize.Parse(original["size"], 'B', option.ToString());
        int number = Hold(draft, id, size, hugePage);
        draft.Change($"Memory backend {id} is on shared memory that the supervisor holds.");
        OptionString backend = OnDescriptor(rest.With("qom-type", "memory-backend-file"), number, null);
        return WithoutPreallocationOnTarget(option, backend);
    }

    private static OptionString OnDescriptor(OptionString backend, int number, long? size) =>
        (size is { } bytes ? backend.With("size", bytes) : backend).With("mem-path", $"/proc/self/fd/{QemuText.Number(number)}").With("share", true);

    /// <summary>The target finds every page in place; touching them while the guest runs would only cost time, and on kernels
    /// without MADV_POPULATE_WRITE (before 5.14) race with the guest's own writes.</summary>
    private static SpecOption WithoutPreallocationOnTarget(SpecOption option, OptionString backend) => option with
    {
        Value = backend.ToString(),
        TargetValue = backend.GetSwitch("prealloc") == true ? backend.Without("prealloc", "prealloc-threads", "prealloc-context").ToString() : null,
    };

    private static int Hold(SpecDraft draft, string id, long size, long? hugePage)
    {
        int number = draft.TakeNumber();
        if (hugePage is { } page && size % page != 0)
        {
            throw new CommandLineException(id, $"the size {QemuText.Number(size)} is no multiple of the huge page size {QemuText.Number(page)}",
                "make the RAM size a multiple of the page size");
        }
        draft.Descriptors.Add(new GuestRamDescriptor(number, id, size, hugePage));
        return number;
    }

    private static SpecOption Refuse(SpecDraft draft, SpecOption option, string id, string type)
    {
        draft.Fail("memory-backend", id, $"{type} cannot be mapped by a second process", "use another kind of memory backend");
        return option;
    }

    private static long? HugePageOf(SpecDraft draft, OptionString memfd, SpecOption option) =>
        memfd.GetSwitch("hugetlb") != true ? null
        : memfd["hugetlbsize"] is { } size && QemuSize.Parse(size, 'B', option.ToString()) is > 0 and var bytes ? bytes
        : draft.Settings.DefaultHugePageSize;

    private static long? HugePageOf(SpecDraft draft, string path, string subject)
    {
        HostPath host = draft.Settings.DescribePath(path);
        if (host.HugePageSize is { } known)
            return known;
        if (host.Kind != HostPathKind.Unknown || !path.Contains("huge", StringComparison.OrdinalIgnoreCase))
            return null;
        draft.Warn("huge-page-size", subject,
            $"{path} could not be looked at; pages of {QemuText.Number(draft.Settings.DefaultHugePageSize)} bytes are assumed",
            "use memory-backend-memfd with hugetlb=on,hugetlbsize=SIZE");
        return draft.Settings.DefaultHugePageSize;
    }

    private static HashSet<string> PersistentBackends(SpecDraft draft) =>
        [.. draft.Named("device").Select(static option => OptionString.Parse(option, "driver"))
            .Where(static device => device["driver"].IsOneOf("nvdimm", "virtio-pmem-pci", "virtio-pmem"))
            .Select(static device => device["memdev"]).OfType<string>()];

    private static bool UsesNumaBackends(SpecDraft draft) =>
        draft.Named("numa").Select(static option => OptionString.Parse(option, "type")).Any(static node => node.Has("memdev"));

    [GeneratedRegex("^/dev/shm/?$|^/dev/hugepages|/hugepages|/$", RegexOptions.CultureInvariant, 1000)]
    private static partial Regex LooksLikeDirectory();
}
