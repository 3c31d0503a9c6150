using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Replacement;

return StateMemory.Descriptor() is { } state ? await ResumedSupervisor.RunAsync(state) : await CommandTree.RunAsync(args);
