namespace CprSharp.VmmUpdate.Qemu;

/// <summary>Signal numbers of Linux on all architectures that run KVM (<c>asm-generic/signal.h</c>).</summary>
internal static class Signals
{
    public const int Interrupt = 2;
    public const int Kill = 9;
    public const int Terminate = 15;
}
