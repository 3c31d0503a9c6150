using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The VM's QMP: everything passes through to the VMM that runs the guest, plus the commands that CprSharp adds.</summary>
internal sealed class QmpFront : IAsyncDisposable
{
    private readonly VmSupervisor _supervisor;
    private readonly UpdateService _updates;
    private readonly MachineEdits _edits;
    private readonly QmpServer _server;
    private readonly CancellationTokenSource _stopping = new();
    private readonly List<Task> _tasks = [];
    private readonly List<Task> _relays = [];
    private readonly List<Socket> _listeners = [];
    private readonly ILogger _logger;

    public QmpFront(VmSupervisor supervisor, UpdateService updates, ClientPolicy clients, ILogger logger)
    {
        _supervisor = supervisor;
        _updates = updates;
        _logger = logger;
        _edits = new MachineEdits(supervisor, logger);
        _server = new QmpServer(HandleAsync, new QmpServerOptions
        {
            Greeting = () => supervisor.Current.Greeting ?? throw new QmpConnectionException(QmpConnectionFailure.Disconnected, "The VMM has not yet greeted."),
            PassUnknownMembers = true,
            Authorize = clients.Allows,
            ConnectionClosed = (connection, cause) =>
            {
                updates.Forget(connection);
                if (cause.Failure == QmpConnectionFailure.NotAuthorized)
                    SupervisorLog.ClientTrouble(logger, "QMP", cause.Message);
            },
            HandlerFailed = (command, e) => SupervisorLog.ClientTrouble(logger, command.Name, e.Message),
        });
        supervisor.Switched += Follow;
        updates.Progress += Announce;
        Follow(supervisor.Current);
    }

    /// <summary>Serves clients on a listening socket, which it owns from here on.</summary>
    public void Listen(Socket listener)
    {
        _listeners.Add(listener);
        _tasks.Add(ServeAsync(listener));
    }

    /// <summary>Replaces the supervisor's program by the one at this path; answers only when it could not be done.</summary>
    public Func<string, QmpServerCommand, Task<ReexecReport>>? Reexec { get; set; }

    /// <summary>Goes on with a client of the program before this one in our process, and answers the command that it waits for.</summary>
    public void Restore(ClientState client, Func<QmpReply> reply) => _server.Restore(
        KeptDescriptors.TakeSocket(client.Socket), client.Connection, client.Connection.UnansweredId is null ? null : reply());

    /// <summary>Takes in no more; completes when every command but this one is answered.</summary>
    public Task PauseAsync(QmpServerCommand current, CancellationToken cancellationToken) => _server.PauseAsync(current, cancellationToken);

    /// <summary>Says no more.</summary>
    public Task PauseWritingAsync() => _server.PauseWritingAsync();

    /// <summary>Goes on after the pauses.</summary>
    public void Continue() => _server.Continue();

    /// <summary>While paused: for the program after this one.</summary>
    public (int[] Listeners, ClientState[] Clients) Save(QmpServerCommand current, KeptDescriptors kept) =>
        ([.. _listeners.Select(l => kept.Keep(l.SafeHandle))],
         [.. _server.Connections.Where(c => !c.Completion.IsCompleted).Select(c => new ClientState(kept.Keep(c.Handle), c.Save(c == current.Connection ? current : null)))]);

    public async ValueTask DisposeAsync()
    {
        _supervisor.Switched -= Follow;
        _updates.Progress -= Announce;
        await SayLastWordsAsync();
        await _stopping.CancelAsync();
        await Task.WhenAll([.. _tasks, .. _relays]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _server.DisposeAsync();
        _stopping.Dispose();
    }

    /// <summary>A VMM that was told to quit has answered and said SHUTDOWN before it ended: that still reaches the clients.</summary>
    private async Task SayLastWordsAsync()
    {
        Task[] relays;
        lock (_tasks)
            relays = [.. _relays];
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        if (_supervisor.Current.Exited.IsCompleted)
            await Task.WhenAll(relays).WaitAsync(patience.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _server.FinishAsync(patience.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task ServeAsync(Socket listener)
    {
        using (listener)
            await _server.RunAsync(listener, _stopping.Token);
    }

    private async ValueTask<QmpReply> HandleAsync(QmpServerCommand command, CancellationToken cancellationToken)
    {
        if (command.Name.StartsWith(QmpNames.Prefix, StringComparison.Ordinal))
            return await OwnAsync(command, cancellationToken);

        using var pass = command.OutOfBand ? default : await _supervisor.Gate.EnterAsync(CommandKinds.MayChange(command.Name), cancellationToken);
        var vmm = _supervisor.Current;
        if (command.Name == "device_add" && _supervisor.DeviceMemory.Lost() is [var lost, ..])
            throw new QmpException(command.Name, QmpErrorClass.GenericError, $"{lost}: a device that is plugged could write into it; an update with engine shared-ram, to the same binary, makes it safe again");
        var reply = await vmm.Qmp.ExecuteRawAsync(
            command.RawUtf8,
            new QmpCommandOptions { OutOfBand = command.OutOfBand, Descriptors = [.. command.Descriptors] },
            cancellationToken);
        if (reply.IsError)
            return reply;

        if (command.Name == "device_add")
            _supervisor.DeviceMemory.Note();
        await _edits.NoteAsync(command.Name, command.Arguments(), vmm, cancellationToken);
        return command.Name switch
        {
            "query-commands" => WithOwnCommands(reply),
            "query-chardev" => WithServedConsoles(reply),
            "query-qmp-schema" => OwnSchema.Extend(reply),
            _ => reply,
        };
    }

    private async ValueTask<QmpReply> OwnAsync(QmpServerCommand command, CancellationToken cancellationToken)
    {
        var arguments = command.Arguments();
        switch (command.Name[QmpNames.Prefix.Length..])
        {
            case QmpNames.Status:
                return Reply(await _updates.StatusAsync(cancellationToken), ReportJson.Default.StatusReport);
            case QmpNames.Lend:
                _supervisor.Loans.Take(command.Connection, command.Name, arguments, command.Descriptors);
                return QmpReply.Success();
            case QmpNames.Check:
                return Reply(await _updates.CheckAsync(Text(command, arguments, "to", required: false), cancellationToken), ReportJson.Default.CheckReport);
            case QmpNames.Update:
                var request = new UpdateRequest(
                    Path.GetFullPath(Text(command, arguments, "to", required: true)!),
                    Text(command, arguments, "engine", required: false),
                    Flag(command, arguments, "dry-run"))
                {
                    Faults = Faults(command, arguments),
                };

                // A client that goes away does not stop an update that it began.
                return Reply(await _updates.UpdateAsync(request, CancellationToken.None), ReportJson.Default.UpdateReport);
            case QmpNames.Rollback:
                return Reply(await _updates.RollbackAsync(Faults(command, arguments), CancellationToken.None), ReportJson.Default.UpdateReport);
            case QmpNames.Reexec when Reexec is { } reexec:
                return Reply(await reexec(Path.GetFullPath(Text(command, arguments, "to", required: true)!), command), ReportJson.Default.ReexecReport);
            case QmpNames.Cancel:
                return _updates.Cancel()
                    ? QmpReply.Success()
                    : throw new QmpException(command.Name, QmpErrorClass.GenericError, "No update is under way");
            default:
                throw new QmpException(command.Name, QmpErrorClass.CommandNotFound, $"The command {command.Name} has not been found");
        }
    }

    private void Follow(Vmm vmm)
    {
        var subscription = vmm.Qmp.Subscribe();
        lock (_tasks)
        {
            _relays.RemoveAll(r => r.IsCompleted);
            _relays.Add(RelayAsync());
        }

        async Task RelayAsync()
        {
            using var _ = subscription;
            try
            {
                await foreach (var e in subscription.WithCancellation(_stopping.Token))
                {
                    if (vmm == _supervisor.Current && !IsOurDoing(e.Name))
                    {
                        if (e.Name == "DEVICE_DELETED")
                            await _supervisor.DeviceMemory.FollowUnplugAsync();
                        await _server.BroadcastAsync(e);
                        _edits.NoteEvent(e);
                    }
                }
            }
            catch (OperationCanceledException)
            {
            }
            catch (Exception e) when (e is QmpConnectionException or QmpEventsMissedException)
            {
                // In an update a program's end is not the end of its process, nor of the guest.
                await _updates.WhenIdleAsync();
                if (vmm == _supervisor.Current && !vmm.Exited.IsCompleted)
                    await FollowAnewAsync(vmm, e);
            }
        }
    }

    /// <summary>The VMM lives and the connection to it does not: make another.</summary>
    private async Task FollowAnewAsync(Vmm vmm, Exception cause)
    {
        SupervisorLog.Reconnecting(_logger, cause.Message);
        try
        {
            await vmm.ReconnectAsync(_stopping.Token);
            Follow(vmm);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            SupervisorLog.ClientTrouble(_logger, vmm.QmpPath, e.Message);
        }
    }

    /// <summary>The guest did not stop, resume or migrate: its VMM was changed.</summary>
    private bool IsOurDoing(string name) => name is "STOP" or "RESUME" or "MIGRATION" or "MIGRATION_PASS" && _updates.IsUpdating;

    private void Announce(UpdatePhase? phase, UpdateReport? report)
    {
        var data = new JsonObject();
        if (phase is { } p)
            data["phase"] = p.ToString().ToLowerInvariant();
        if (report is not null)
        {
            data["outcome"] = JsonNamingPolicy.CamelCase.ConvertName(report.Outcome.ToString());
            if (report.PauseMs is { } pause)
                data["pause-ms"] = pause;
        }

        var sent = _server.BroadcastAsync(QmpEvent.Now(QmpNames.UpdateEvent, data));
        if (!sent.IsCompletedSuccessfully)
            _tasks.Add(sent.AsTask());
    }

    private static QmpReply WithOwnCommands(QmpReply reply)
    {
        var commands = JsonArray.Create(reply.ReturnValue())!;
        foreach (var name in QmpNames.Commands)
            commands.Add((JsonNode)new JsonObject { ["name"] = name });
        return QmpReply.Success(commands);
    }

    /// <summary>Where a console's clients come in, instead of what its VMM sees of it.</summary>
    private QmpReply WithServedConsoles(QmpReply reply)
    {
        var names = _supervisor.Consoles.Names;
        if (names.Count == 0)
            return reply;
        var all = JsonArray.Create(reply.ReturnValue())!;
        foreach (var chardev in all.OfType<JsonObject>())
        {
            if (names.TryGetValue(chardev["label"]?.GetValue<string>() ?? "", out var name))
                chardev["filename"] = name;
        }

        return QmpReply.Success(all);
    }

    private static QmpReply Reply<T>(T value, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type) =>
        QmpReply.Success(JsonSerializer.SerializeToElement(value, type));

    private static FaultPlan Faults(QmpServerCommand command, JsonElement arguments)
    {
        try
        {
            return FaultPlan.Parse(Text(command, arguments, "fault", required: false) ?? Environment.GetEnvironmentVariable("CPRSHARP_FAULT"));
        }
        catch (FormatException e)
        {
            throw new QmpException(command.Name, QmpErrorClass.GenericError, e.Message);
        }
    }

    private static string? Text(QmpServerCommand command, JsonElement arguments, string name, bool required)
    {
        if (!arguments.TryGetProperty(name, out var value))
            return required ? throw new QmpException(command.Name, QmpErrorClass.GenericError, $"Parameter '{name}' is missing") : null;
        return value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : throw new QmpException(command.Name, QmpErrorClass.GenericError, $"Invalid parameter type for '{name}', expected: string");
    }

    private static bool Flag(QmpServerCommand command, JsonElement arguments, string name) =>
        arguments.TryGetProperty(name, out var value) && value.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            _ => throw new QmpException(command.Name, QmpErrorClass.GenericError, $"Invalid parameter type for '{name}', expected: boolean"),
        };
}
