using CprSharp.VmmUpdate.Cli;

return await CommandTree.RunAsync(args);
