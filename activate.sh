# Enter the environment: `source activate.sh` in bash or zsh, from anywhere.
# With WMTP_SOURCE=hub set, the Dagster instance is that of the real source.

_wmtp_project="$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")" > /dev/null && pwd)"
. "$_wmtp_project/.venv/bin/activate" || return 1

if [ "${WMTP_SOURCE:-sample}" = hub ]; then
    export DAGSTER_HOME="$_wmtp_project/.dagster/hub"
elif [ "${DAGSTER_HOME:-}" = "$_wmtp_project/.dagster/hub" ]; then
    unset DAGSTER_HOME
fi

# `dagster asset`, `job`, `schedule` and `sensor` read no workspace.yaml: give them the module. An
# exported DAGSTER_MODULE_NAME would break `dagster dev`. The instance is found from the project
# folder only, and by `schedule` and `sensor` where DAGSTER_HOME names it.
dagster() {
    case "${1:-}" in
        asset | job | schedule | sensor)
            if [ $# -ge 2 ]; then
                _wmtp_group="$1" _wmtp_command="$2"
                shift 2
                (
                    cd "$_wmtp_project" || exit
                    case "$_wmtp_group" in
                        schedule | sensor) export DAGSTER_HOME="${DAGSTER_HOME:-$_wmtp_project}" ;;
                    esac
                    command dagster "$_wmtp_group" "$_wmtp_command" \
                        -m wmtp_assets.definitions "$@"
                )
                return
            fi
            ;;
    esac
    (cd "$_wmtp_project" && command dagster "$@")
}
