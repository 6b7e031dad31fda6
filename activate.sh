# Enter the environment: `source activate.sh` in bash or zsh, from anywhere.
# With WMTP_SOURCE=hub set, the Dagster instance is that of the real source; with
# WMTP_DATABASE_URL set, it is in that database, and its logs are on the storage root.

_wmtp_project="$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")" > /dev/null && pwd)"
. "$_wmtp_project/.venv/bin/activate" || return 1

case "${DAGSTER_HOME:-}" in
    "" | */.dagster/hub | */.dagster/sample | */.wmtp/dagster) # none, or that of another clone
        if [ -n "${WMTP_DATABASE_URL:-}" ]; then
            if [ "${WMTP_SOURCE:-sample}" = hub ]; then
                _wmtp_root="${WMTP_STORAGE_ROOT:-storage}"
            else
                _wmtp_root="${WMTP_STORAGE_ROOT:-storage/sample}"
            fi
            case "$_wmtp_root" in
                /*) ;;
                "~" | "~/"*) _wmtp_root="$HOME${_wmtp_root#"~"}" ;;
                *) _wmtp_root="$_wmtp_project/$_wmtp_root" ;;
            esac
            export DAGSTER_HOME="$_wmtp_root/.wmtp/dagster"
            mkdir -p "$DAGSTER_HOME" || return 1
            if [ ! -e "$DAGSTER_HOME/dagster.yaml" ]; then # whoever changed theirs keeps it
                cp "$_wmtp_project/.dagster/cluster/dagster.yaml" "$DAGSTER_HOME/" || return 1
            fi
            unset _wmtp_root
        elif [ "${WMTP_SOURCE:-sample}" = hub ]; then
            export DAGSTER_HOME="$_wmtp_project/.dagster/hub"
        else
            export DAGSTER_HOME="$_wmtp_project/.dagster/sample"
        fi
        ;;
esac

# Every option of every `dagster` command is read from the environment too. These tell the commands
# that read no workspace.yaml what to load, from any folder, script or cron; an exported
# DAGSTER_MODULE_NAME would break `dagster dev`.
for _wmtp_command in ASSET_MATERIALIZE ASSET_LIST JOB_EXECUTE JOB_SCAFFOLD_CONFIG; do
    export "DAGSTER_CLI_${_wmtp_command}_MODULE_NAME=wmtp_assets.definitions"
done
for _wmtp_command in DEV DEFINITIONS_VALIDATE JOB_LIST JOB_PRINT JOB_LAUNCH JOB_BACKFILL \
    SCHEDULE_PREVIEW SCHEDULE_LIST SCHEDULE_START SCHEDULE_STOP SCHEDULE_LOGS SCHEDULE_RESTART \
    SENSOR_LIST SENSOR_START SENSOR_STOP SENSOR_PREVIEW SENSOR_CURSOR; do
    export "DAGSTER_CLI_${_wmtp_command}_WORKSPACE=$_wmtp_project/workspace.yaml"
done
unset _wmtp_command

# Commands of Dagster that `dg` supersedes say so each time; they are the ones that the pages type.
for _wmtp_command in asset_materialize_command job_execute_command; do
    _wmtp_filter="ignore:Function \`$_wmtp_command\` is superseded"
    case "${PYTHONWARNINGS:-}" in
        *"$_wmtp_filter"*) ;;
        *) export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}$_wmtp_filter" ;;
    esac
done
unset _wmtp_command _wmtp_filter
