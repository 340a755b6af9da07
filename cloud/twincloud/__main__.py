"""`twincloud`: runs the command line and tells every error as cause, fix and exit code."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from twinmodel.errors import ConflictError, Exit, TwinError

_OF_EXTRA = ("alembic", "fastapi", "grpc", "jinja2", "prometheus_client", "sqlalchemy", "starlette", "uvicorn")


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; data goes to stdout, talk to stderr."""
    # Click and our own modules are always there; what only the coordinator needs is imported by its commands.
    import click  # noqa: PLC0415 keeps an import error inside of main's own reporting

    from twincloud.cli import root  # noqa: PLC0415 the same

    code: int = Exit.OK
    try:
        ended = root.main(arguments, prog_name="twincloud", standalone_mode=False)
        code = ended if isinstance(ended, int) else Exit.OK
    except TwinError as error:
        code = _tell(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_EXTRA or find_spec(missing) is not None:
            raise
        cause, hint = f"the module {missing} is not installed", "install the extra: pip install 'hybridtwin[cloud]'"
        code = _tell(ConflictError("EXTRA_MISSING", cause, hint=hint))
    except click.Abort:
        code = Exit.FAILED
    except click.ClickException as error:
        error.show(sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
    return code


def _tell(error: TwinError) -> int:
    sys.stderr.write(f"error: {error}\n\nhint: {error.hint}\n")
    return error.outcome.exit


if __name__ == "__main__":
    main()
