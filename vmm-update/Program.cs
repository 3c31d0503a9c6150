using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Libvirt;
using CprSharp.VmmUpdate.Replacement;

return args switch
{
    _ when StateMemory.Descriptor() is { } state => await ResumedSupervisor.RunAsync(state),

    // What libvirt calls, by its own rules for arguments.
    [Emulator.Command, .. var emulated] => await Emulator.RunAsync(emulated),
    [HookCommand.Command, .. var hooked] => await HookCommand.RunAsync(hooked),
    _ => await CommandTree.RunAsync(args),
};
