using CprSharp.Memfd;
using CprSharp.Qmp;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Whom the VM's QMP sockets answer: the supervisor's user, root, and the members of the group that the settings name.</summary>
internal sealed class ClientPolicy(SecurityOptions options)
{
    private readonly uint _owner = FileGroup.OwnUser;
    private readonly uint? _group = options.GroupId();

    /// <param name="peer">Who has connected; null on TCP, where the VM's own command line has asked for a socket that anybody can reach.</param>
    public bool Allows(QmpPeerCredentials? peer) =>
        peer is not { } client || client.UserId == _owner || client.UserId == 0 || (_group is { } group && (client.GroupId == group || client.Groups.Contains(group)));
}
