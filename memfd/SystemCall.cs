namespace CprSharp.Memfd;

/// <summary>A system call that a thread is about to make.</summary>
/// <param name="Number">Of x86-64: <c>asm/unistd_64.h</c>.</param>
/// <param name="First">Its first argument.</param>
/// <param name="Second">Its second argument.</param>
/// <param name="Third">Its third argument.</param>
/// <param name="Fourth">Its fourth argument.</param>
public readonly record struct SystemCall(long Number, ulong First, ulong Second, ulong Third, ulong Fourth);
