"""The arguments of the reference implementation that formers refuses, each with what to do instead.

They are accepted at their neutral value, so that settings written for the reference load; any other value raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from formers.errors import UnsupportedError

_LAUNCH = "Leave it out: torchrun and accelerate launch tell each process its place."
_SHARDED = "formers keeps the whole model on one device: leave it out, or use gradient_checkpointing=True for memory."
_HALF = "Use bf16=True."
_TPU = "formers trains on CPUs or GPUs: leave it out."
_TRACKERS = "The curves are in metrics.jsonl, metrics.csv, training.png and TensorBoard; pass a callback for a tracker."


def refused(neutral: Any, remedy: str) -> Any:
    """A field that is accepted only as `neutral`."""
    return field(default=neutral, repr=False, metadata={"remedy": remedy})


@dataclass(kw_only=True)
class RefusedArguments:
    """One field for each argument of the reference that is refused."""

    # Half precision and kernels
    fp16: bool = refused(False, _HALF)
    fp16_full_eval: bool = refused(False, 'Load the model with dtype="float16".')
    bf16_full_eval: bool = refused(False, 'Use bf16=True, or load the model with dtype="bfloat16".')
    fp16_opt_level: str = refused("O1", _HALF)
    fp16_backend: str = refused("auto", _HALF)
    half_precision_backend: str = refused("auto", _HALF)
    tf32: bool | None = refused(None, 'Call torch.set_float32_matmul_precision("high") before training.')
    use_liger_kernel: bool = refused(False, "Use torch_compile=True, which fuses kernels.")
    liger_kernel_config: str | None = refused(None, "Use torch_compile=True, which fuses kernels.")
    jit_mode_eval: bool = refused(False, "Use torch_compile=True.")
    torchdynamo: str | None = refused(None, "Use torch_compile_backend.")
    use_cache: bool = refused(False, "Training keeps no cache: leave it out.")
    past_index: int = refused(-1, "No model here returns past states: leave it out.")
    # Optimisation
    optim_target_modules: str | None = refused(None, 'Use optim="adafactor" for memory.')
    neftune_noise_alpha: float | None = refused(None, "Register a forward hook on model.get_input_embeddings().")
    auto_find_batch_size: bool = refused(
        False, "Lower per_device_train_batch_size and raise gradient_accumulation_steps: the result is the same."
    )
    torch_empty_cache_steps: int | None = refused(None, "Call torch.cuda.empty_cache() in a callback's on_step_end.")
    # Several processes or devices
    local_rank: int = refused(-1, _LAUNCH)
    ddp_broadcast_buffers: bool | None = refused(
        None, "Leave it out: buffers are those of the first process when training starts, then each process's own."
    )
    accelerator_config: str | None = refused(None, _SHARDED)
    parallelism_config: str | None = refused(None, _SHARDED)
    fsdp: str | None = refused(None, _SHARDED)
    fsdp_config: str | None = refused(None, _SHARDED)
    fsdp_min_num_params: int = refused(0, _SHARDED)
    fsdp_transformer_layer_cls_to_wrap: str | None = refused(None, _SHARDED)
    deepspeed: str | None = refused(None, _SHARDED)
    mp_parameters: str = refused("", _SHARDED)
    tpu_num_cores: int | None = refused(None, _TPU)
    tpu_metrics_debug: bool = refused(False, _TPU)
    use_mps_device: bool = refused(False, "An Apple GPU is used when there is one: leave it out.")
    # Data
    dataloader_persistent_workers: bool = refused(False, "Workers start anew each epoch: leave it out.")
    dataloader_multiprocessing_context: str | None = refused(None, "Call torch.multiprocessing.set_start_method.")
    dataloader_in_order: bool = refused(True, "The order of the data is exact here: leave it out.")
    ignore_data_skip: bool = refused(
        False, "Skipping reads no data of a map-style dataset: leave it out, and resuming stays exact."
    )
    # Evaluation, saving and reporting
    eval_do_concat_batches: bool = refused(True, "Split the arrays in compute_metrics, or use batch_eval_metrics.")
    use_legacy_prediction_loop: bool = refused(False, "There is one prediction loop: leave it out.")
    save_safetensors: bool = refused(True, "Weights are saved as safetensors: leave it out.")
    enable_jit_checkpoint: bool = refused(False, "Lower save_steps, and continue with resume_from_checkpoint=True.")
    skip_memory_metrics: bool = refused(True, "Measure with psutil or torch.cuda.max_memory_allocated in a callback.")
    debug: str = refused("", "Call torch.autograd.set_detect_anomaly(True).")
    project: str = refused("huggingface", _TRACKERS)
    trackio_space_id: str | None = refused(None, _TRACKERS)
    trackio_bucket_id: str | None = refused(None, _TRACKERS)
    trackio_static_space_id: str | None = refused(None, _TRACKERS)
    ray_scope: str = refused("last", 'Search with backend="optuna": leave it out.')


# Values that mean the neutral one in another version of the reference.
_ALSO_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "trackio_space_id": ("trackio",),
    "local_rank": (0,),
    "ddp_broadcast_buffers": (False,),
    "debug": ([], None),
    "fsdp": ("", []),
}


def check(arguments: Any) -> None:
    """Raise UnsupportedError for the first refused argument that has a value of its own."""
    for item in fields(arguments):
        value = getattr(arguments, item.name)
        if "remedy" not in item.metadata or value == item.default or value in _ALSO_NEUTRAL.get(item.name, ()):
            continue
        raise UnsupportedError(f"{item.name}={value!r} is not supported.", item.metadata["remedy"])
