using System.Text.RegularExpressions;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The names of a VM's files. One directory per VM, mode 0700.</summary>
internal sealed partial class VmDirectory
{
    public VmDirectory(string stateDirectory, string name)
    {
        ValidateName(name);
        Name = name;
        Path = System.IO.Path.Combine(stateDirectory, name);
    }

    public string Name { get; }

    public string Path { get; }

    /// <summary>The VM's QMP socket, served by the supervisor.</summary>
    public string QmpSocket => In("qmp.sock");

    /// <summary>What runs and how it is to be started again.</summary>
    public string Record => In("vm.json");

    /// <summary>The update that is under way; absent when none is.</summary>
    public string UpdateJournal => In("update.json");

    /// <summary>How far the switch-over of the update has come.</summary>
    public string SwitchMark => In("update.step");

    /// <summary>One report per line, oldest first.</summary>
    public string History => In("history.jsonl");

    /// <summary>Locked for as long as a supervisor lives.</summary>
    public string Lock => In("lock");

    public string SupervisorLog => In("supervisor.log");

    public string MonitorSocket(int generation) => In($"vmm-{generation}.qmp");

    public string VmmLog(int generation) => In($"vmm-{generation}.log");

    /// <summary>Where device state goes from the old to the new VMM.</summary>
    public string MigrationSocket(int generation) => In($"vmm-{generation}.main");

    /// <summary>The cpr channel: descriptors go from the old to the new VMM.</summary>
    public string CprSocket(int generation) => In($"vmm-{generation}.cpr");

    /// <summary><c>sun_path</c> without its final NUL (<c>unix(7)</c>).</summary>
    private const int LongestSocketPath = 107;

    public bool Exists => Directory.Exists(Path);

    /// <param name="group">Who may come in beside the owner, to the VM's QMP socket.</param>
    /// <exception cref="UpdateException">The sockets' names would be longer than the kernel takes, or the group cannot be given.</exception>
    public void Create(uint? group = null)
    {
        if (System.Text.Encoding.UTF8.GetByteCount(MigrationSocket(999_999)) > LongestSocketPath)
        {
            throw new UpdateException(
                "state-directory-path", $"{Path} is too long for the Unix sockets in it, whose names QEMU takes up to {LongestSocketPath} bytes", "use a shorter --state-dir or VM name");
        }

        try
        {
            Directory.CreateDirectory(Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UpdateException("state-directory-path", $"the VM's directory {Path} cannot be made: {e.Message}", "name a directory in --state-dir, or its parent, in which you may make others", e);
        }

        const UnixFileMode owner = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (group is { } members)
            Give(Path, members);
        File.SetUnixFileMode(Path, group is null ? owner : owner | UnixFileMode.GroupRead | UnixFileMode.GroupExecute);
    }

    /// <summary>Gives the VM's QMP socket to a group.</summary>
    public void OpenQmpSocket(uint group)
    {
        Give(QmpSocket, group);
        File.SetUnixFileMode(QmpSocket, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite);
    }

    private static void Give(string path, uint group)
    {
        try
        {
            Memfd.FileGroup.Set(path, group);
        }
        catch (IOException e)
        {
            throw new UpdateException("security-group", $"the setting Security:Group cannot be carried out: {e.Message}", "run the supervisor as root or as a member of the group", e);
        }
    }

    /// <summary>Device state of a VMM whose program is replaced, for the next program. A file, because it has to outlive the supervisor.</summary>
    public string StateFile(int generation) => In($"vmm-{generation}.state");

    /// <summary>A program has taken another's place in its process, with its monitor's socket and its log: they get its number.</summary>
    public void PassOn(int from, int to)
    {
        if (File.Exists(MonitorSocket(from)))
            File.Move(MonitorSocket(from), MonitorSocket(to));
        if (File.Exists(VmmLog(from)))
            File.Move(VmmLog(from), VmmLog(to), overwrite: true);
        File.Delete(StateFile(to));
    }

    /// <summary>Removes the sockets of one VMM. Its log stays until the VM's directory goes.</summary>
    public void RemoveSockets(int generation)
    {
        File.Delete(MonitorSocket(generation));
        RemoveTransferSockets(generation);
    }

    /// <summary>Removes what the way to one VMM was made of; its monitor stays.</summary>
    public void RemoveTransferSockets(int generation)
    {
        File.Delete(StateFile(generation));
        File.Delete(MigrationSocket(generation));
        File.Delete(CprSocket(generation));
    }

    /// <summary>A VM name is a file name: letters, digits, and <c>. _ - +</c>, not starting with a dot or dash, at most 64 characters.</summary>
    /// <exception cref="ArgumentException">The name is not one.</exception>
    public static void ValidateName(string name)
    {
        if (!NamePattern().IsMatch(name))
            throw new ArgumentException($"'{name}' is not a VM name: use 1 to 64 letters, digits, '.', '_', '-' or '+', beginning with a letter or digit", nameof(name));
    }

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", RegexOptions.CultureInvariant, 1000)]
    private static partial Regex NamePattern();

    private string In(string file) => System.IO.Path.Combine(Path, file);
}
