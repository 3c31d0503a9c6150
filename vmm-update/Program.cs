using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Libvirt;

return args is [Emulator.Command, .. var emulated] ? await Emulator.RunAsync(emulated) : await CommandTree.RunAsync(args);
