using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>One byte that says how far the switch-over has come; it outlives the supervisor that sets it.</summary>
/// <remarks>
/// Needed when supervisor and new VMM both die: the old VMM must not go on if the new one has changed memory and disks since. The file is
/// opened and filled beforehand, so that setting it in the pause changes a page of the cache, and cannot fail on a full disk.
/// </remarks>
internal sealed class SwitchMark : IDisposable
{
    private readonly SafeFileHandle _file;

    private SwitchMark(SafeFileHandle file) => _file = file;

    public static SwitchMark Create(VmDirectory directory)
    {
        var mark = new SwitchMark(File.OpenHandle(directory.SwitchMark, FileMode.Create, FileAccess.Write));
        mark.Set(SwitchStep.None);
        return mark;
    }

    public static SwitchStep Read(VmDirectory directory) =>
        File.Exists(directory.SwitchMark) && File.ReadAllBytes(directory.SwitchMark) is [var step] ? (SwitchStep)step : SwitchStep.None;

    public static void Delete(VmDirectory directory) => File.Delete(directory.SwitchMark);

    public void Set(SwitchStep step) => RandomAccess.Write(_file, [(byte)step], 0);

    public void Dispose() => _file.Dispose();
}
