using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Libvirt;

return args switch
{
    // What libvirt calls, by its own rules for arguments.
    [Emulator.Command, .. var emulated] => await Emulator.RunAsync(emulated),
    [HookCommand.Command, .. var hooked] => await HookCommand.RunAsync(hooked),
    _ => await CommandTree.RunAsync(args),
};
