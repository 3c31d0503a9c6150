namespace CprSharp.Memfd;

/// <summary>Who connected (SO_PEERCRED, unix(7)): taken by the kernel at connect, listen or socketpair, in our namespaces.</summary>
/// <param name="Pid">Process number at that time; 0 when the peer is outside our PID namespace.</param>
/// <param name="Uid">Effective user.</param>
/// <param name="Gid">Effective group.</param>
public readonly record struct PeerCredentials(int Pid, uint Uid, uint Gid);
