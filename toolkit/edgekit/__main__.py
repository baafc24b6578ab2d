"""`edgekit`, and `python -m edgekit`: signals are answered before anything else is imported."""

from __future__ import annotations

from edgekit import interruption


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        interruption.install()
        from edgekit.cli import main as run

        run()
    except KeyboardInterrupt:  # while that was imported
        interruption.leave()
    except ImportError:  # how some modules put it that their import was interrupted
        if interruption.exit_code() is None:
            raise
        interruption.leave()


if __name__ == "__main__":
    main()
