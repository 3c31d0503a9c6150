using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>A command line's connection to a VM's supervisor: the VM's own QMP socket, as for any other client.</summary>
internal sealed class VmConnection : IAsyncDisposable
{
    /// <summary>The code of the failure when nobody answers.</summary>
    public const string NoSupervisor = "no-supervisor";

    private readonly QmpClient _client = new();

    private VmConnection(VmDirectory directory) => Directory = directory;

    public VmDirectory Directory { get; }

    /// <summary>The user that serves the VM.</summary>
    public uint User { get; private set; }

    /// <summary>The process that serves it.</summary>
    public int Supervisor { get; private set; }

    /// <summary>Connects.</summary>
    /// <exception cref="UpdateException">There is no such VM, or no supervisor answers.</exception>
    public static async Task<VmConnection> OpenAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        if (!File.Exists(directory.Record))
        {
            throw new UpdateException(
                "no-such-vm", $"there is no VM '{directory.Name}' in {Path.GetDirectoryName(directory.Path)}", "`cprsharp list` shows the VMs; --state-dir says where they are kept");
        }

        var connection = new VmConnection(directory);
        try
        {
            var socket = Memfd.UnixSocket.Connect(directory.QmpSocket);
            using (var peer = new Memfd.DescriptorSocket(socket, ownsSocket: false))
                (connection.Supervisor, connection.User, _) = peer.Peer;
            await connection._client.ConnectAsync(socket, cancellationToken);
            return connection;
        }
        catch (Exception e) when (e is QmpConnectionException or SocketException or IOException)
        {
            await connection.DisposeAsync();
            throw new UpdateException(
                NoSupervisor, $"no supervisor answers for VM '{directory.Name}' on {directory.QmpSocket}: {e.Message}",
                $"`cprsharp adopt {directory.Name}` takes the running VM over again", e);
        }
    }

    public async Task<T> AskAsync<T>(string command, JsonObject? arguments, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        var answer = await _client.ExecuteAsync(QmpNames.Prefix + command, arguments, null, cancellationToken);
        return answer.Deserialize(type) ?? throw new UpdateException("protocol", $"the supervisor answered {command} with nothing", "use the same version of cprsharp on both sides");
    }

    /// <summary>Tells the supervisor what it may use for the next update, and sends the descriptors along.</summary>
    public Task LendAsync(JsonObject arguments, IReadOnlyList<System.Runtime.InteropServices.SafeHandle> descriptors, CancellationToken cancellationToken) =>
        _client.ExecuteAsync(QmpNames.Prefix + QmpNames.Lend, arguments, new QmpCommandOptions { Descriptors = descriptors }, cancellationToken);

    public QmpEventSubscription SubscribeProgress() => _client.Subscribe(QmpNames.UpdateEvent);

    public ValueTask DisposeAsync() => _client.DisposeAsync();
}
