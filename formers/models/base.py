"""PreTrainedModel: what every model can do, whatever its architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.hub.files import ModelFiles, Source
from formers.hub.gguf_blocks import Blocks
from formers.layers.attention import AttentionFunction, SelfAttention, attention_function, sdpa
from formers.layers.block import Block, FeedForward
from formers.layers.causal import CausalAttention
from formers.layers.cross import CrossAttention
from formers.layers.linear import Linear, Packing, Stored
from formers.layers.watch import Watch
from formers.memory import keep_freed_memory
from formers.models import embeddings, keys, loading, placement, quantization, saving
from formers.models.spec import Definition, ModelSpec
from formers.outputs import ModelOutput

_Self = TypeVar("_Self", bound="PreTrainedModel")


class PreTrainedModel(nn.Module):
    """Base of all models. The concrete classes (`BertModel`, `BertForMaskedLM`, …) come out of the registry."""

    definition: ClassVar[Definition]
    config_class: ClassVar[type[PreTrainedConfig]]
    base_model_prefix: ClassVar[str] = ""
    # Name of the head ("ForMaskedLM"), "" for the bare model.
    head_name: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "input_ids"
    # Parameters that are the same tensor, by the name that is left out of files, when config.tie_word_embeddings is on.
    tied: ClassVar[Mapping[str, str]] = {}
    # Set where parts of the model lie elsewhere than where it computes: the places of its parts, and that device.
    hf_device_map: dict[str, Any] | None = None
    home: torch.device | None = None
    _prepared: Watch | None = None

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise InputError(
                f"{type(self).__name__} needs a {self.config_class.__name__}, not a {type(config).__name__}.",
                f"Use {type(self).__name__}.from_pretrained(name) to load a model by name.",
            )
        self.config = config
        self.spec: ModelSpec = self.definition.spec(config)
        self.attention: AttentionFunction = sdpa
        # Parameters that a checkpoint has of their own, though they could be tied.
        self.untied: set[str] = set()
        # The blocks of a GGUF file that parameters were read from, by the parameters' names.
        self.blocks: dict[str, Stored] = {}
        # What weights became when the model was loaded with quantize=.
        self.quantization: quantization.Quantization | None = None

    def post_init(self) -> None:
        """Tie and initialise the weights of a model that has just been built."""
        self.tie_weights()
        if self.device.type != "meta":
            loading.initialise(self, [name for name, _ in self.named_parameters()])
        self.set_attn_implementation(self.config.attn_implementation)

    # -- loading and saving --------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls: type[_Self],
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *,
        config: PreTrainedConfig | str | PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: placement.DeviceMap | None = None,
        max_memory: Mapping[Any, int | str] | None = None,
        offload_folder: str | PathLike[str] | None = None,
        offload_buffers: bool = False,
        offload_state_dict: bool | None = None,
        attn_implementation: str | AttentionFunction | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        state_dict: Mapping[str, Tensor] | None = None,
        use_safetensors: bool | None = None,
        weights_only: bool = True,
        low_cpu_mem_usage: bool | None = None,
        trust_remote_code: bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        gguf_file: str | None = None,
        quantize: str | None = None,
        **config_overrides: Any,
    ) -> Any:
        """Load a model from a folder, an installed model package or the hub; it comes back in evaluation mode.

        `dtype` is float32 unless given; "auto" takes the checkpoint's where the device is fast in it, else float32.
        Other keywords override configuration values (`num_labels=3`). With `output_loading_info` the answer is (model,
        dict of missing, unexpected and mismatched keys). `gguf_file` names the GGUF file of the model to read.

        `device_map` is a device, "auto" (an accelerator if there is one), or a dictionary of the places of modules,
        named as here or in checkpoints: a device, "cpu" or "disk". `max_memory` ({0: "10GB", "cpu": "30GB"}) makes
        "auto" fill one place after the other, the disk last, in `offload_folder`. All is computed on one device.

        `quantize`, "int8" or "int4", makes integers of the matrices, for inference on a CPU: in models that write
        text, groups of 32 with a scale (4 bits: and a minimum), which steps of generation read; in encoders ("int8"),
        rows with a scale, for products of integers. `save_pretrained` writes them so, and loading reads them so.

        `trust_remote_code`, `low_cpu_mem_usage` and `offload_state_dict` change nothing: code from model folders is
        never run, and weights are always loaded without a second copy.
        """
        options = loading.Options(
            dtype=loading.same_value("dtype", dtype, "torch_dtype", torch_dtype),
            device_map=device_map,
            max_memory=max_memory,
            offload_folder=offload_folder,
            offload_buffers=offload_buffers,
            attn_implementation=attn_implementation,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            state_dict=state_dict,
            use_safetensors=use_safetensors,
            weights_only=weights_only,
            variant=variant,
            quantize=quantize,
            source=Source(revision, token, cache_dir, local_files_only, subfolder, force_download, gguf_file),
        )
        model, info = loading.load(cls, pretrained_model_name_or_path, config, options, config_overrides)
        return (model, info.as_dict()) if output_loading_info else model

    @classmethod
    def from_config(cls: type[_Self], config: PreTrainedConfig, **options: Any) -> _Self:
        """A model with new random weights; `dtype` and `attn_implementation` as in `from_pretrained`."""
        return loading.build(cls, config, **options)

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        max_shard_size: int | str = "50GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        save_quantized: str | None = None,
    ) -> None:
        """Write config.json and model.safetensors (or pytorch_model.bin), in shards above `max_shard_size`.

        `variant` gives the files of weights another name: model.<variant>.safetensors.
        `save_quantized="int8"` stores each matrix as int8 with one scale a row; loading turns it back into floats.
        """
        if is_main_process:
            saving.save(self, save_directory, state_dict, max_shard_size, safe_serialization, variant, save_quantized)
            if push_to_hub:
                self.push_to_hub(str(save_directory))

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
        """Upload configuration and weights to the hub; returns the address of the commit."""
        return saving.push(self, repo_id, private, token)

    def read_settings(self, files: ModelFiles) -> None:
        """Take what lies beside the weights and the configuration. Models that generate override it."""

    def write_settings(self, folder: Path) -> None:
        """Write what `read_settings` reads."""

    def place(self, name: str) -> keys.Place:
        """Where checkpoints keep this model's tensor `name`."""
        return keys.place(name, self.rules())

    def rules(self) -> list[keys.Rule]:
        """The checkpoint rules of this model."""
        definition = self.definition
        configured = definition.configured_rules(self.config) if definition.configured_rules else {}
        encoder = [*definition.rules, *configured.get("Model", ())]
        if not self.head_name:
            return encoder
        heads = [*definition.head_rules.get(self.head_name, ()), *configured.get(self.head_name, ())]
        prefix = self.base_model_prefix + "." if self.base_model_prefix else ""
        return [*heads, *keys.prefixed(encoder, prefix, "model.")]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's; takes the names of this model or those that checkpoints use."""
        if self.quantization is not None:
            raise quantization.refused("take other weights")
        return super().load_state_dict(loading.own_names(self, state_dict), strict=strict, assign=assign)

    def train(self: _Self, mode: bool = True) -> _Self:
        """As torch's; a quantized model cannot be trained."""
        if mode and self.quantization is not None:
            raise quantization.refused("be trained")
        return super().train(mode)

    def _apply(self: _Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Self:
        if self.quantization is not None:
            quantization.check_move(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> Any:
        """The model without its head."""
        return self.model if self.head_name else self

    def __getattr__(self, name: str) -> Any:
        if name == type(self).base_model_prefix and name != "model" and type(self).head_name:
            return self.model
        return super().__getattr__(name)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings."""
        tokens: nn.Embedding = self.model.get_input_embeddings() if self.head_name else self.embeddings.tokens
        return tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings."""
        if self.head_name:
            self.model.set_input_embeddings(value)
        else:
            self.embeddings.tokens = value
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Module | None:
        """The layer that gives vocabulary logits, None for models without one."""
        return self.get_submodule("head.output") if self.tied else None

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the layer that gives vocabulary logits."""
        if not self.tied:
            raise InputError(f"{type(self).__name__} has no vocabulary logits.", "Use a language-modeling class.")
        self.get_submodule("head").output = value

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Grow or cut the vocabulary; new rows start from the mean of the old (`mean_resizing`) or at random."""
        return embeddings.resize(self, new_num_tokens, pad_to_multiple_of, mean_resizing)

    def tie_weights(self) -> None:
        """Make the parameters that the configuration ties the same tensor."""
        for name, source in self.ties().items():
            module, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(module), leaf, self.get_parameter(source))

    def ties(self) -> Mapping[str, str]:
        """The parameters of this model that are the same tensor as another, with the name of that."""
        always = self.spec.shared_embeddings
        wanted = self.config.tie_word_embeddings if always is None else always
        return {name: source for name, source in self.tied.items() if name not in self.untied} if wanted else {}

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are, or are brought to when they are needed."""
        return self.home or next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def name_or_path(self) -> str:
        """What the model was loaded by."""
        return self.config.name_or_path

    @property
    def num_labels(self) -> int:
        """How many labels the configuration names."""
        return self.config.num_labels

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the model holds; shared ones count once."""
        skipped = {id(m.weight) for m in self.modules() if exclude_embeddings and isinstance(m, nn.Embedding)}
        chosen = (p for p in self.parameters() if id(p) not in skipped and (p.requires_grad or not only_trainable))
        return sum(p.numel() for p in chosen)

    def get_memory_footprint(self) -> int:
        """Bytes of all weights and buffers."""
        return sum(t.numel() * t.element_size() for t in [*self.parameters(), *self.buffers()])

    def set_attn_implementation(self, attn_implementation: str | AttentionFunction | None) -> None:
        """Choose the attention function: "sdpa", "eager", or a function as formers.layers.attention describes."""
        function = attention_function(attn_implementation)
        self.config.attn_implementation = attn_implementation or "sdpa"
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.attention = function

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return bool(getattr(self.base_model, "gradient_checkpointing", False))

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Trade time for memory in training: recompute blocks in the backward pass (never reentrant)."""
        if (gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise InputError("Reentrant checkpointing is not supported.", "Leave use_reentrant out.")
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self.base_model.gradient_checkpointing = False

    def enable_input_require_grads(self) -> None:
        """Let gradients flow to the embeddings' output, for adapters on frozen weights."""

        def require(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            output.requires_grad_(True)

        self._input_hook = self.get_input_embeddings().register_forward_hook(require)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        self._input_hook.remove()

    def finish(self, output: ModelOutput, return_dict: bool | None) -> Any:
        """The output as the caller wants it: an object, or a plain tuple with `return_dict=False`."""
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def for_inference(self: _Self, *, compiled: bool = False) -> _Self:
        """Evaluation mode, with weights arranged for fast small batches on a CPU. Results, names and files stay.

        With numba (extra `fast`), the layers of BERT and its like become one compiled call. That is made ready beside
        the first calls of the model; with `compiled` at once, which takes about a second, the first time on a machine
        some more.
        """
        if self._prepared is None or not self._prepared.same():
            self._arrange()
        if compiled:
            for module in self.modules():
                if isinstance(module, PreTrainedModel):
                    module.finish_preparing()
        return self

    def _arrange(self) -> None:
        self.eval()
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.home is not None:  # weights that come and go have no other form
            return
        joined: set[nn.Module] = set()
        # Weights stay ordinary tensors, whatever mode the caller is in.
        with torch.inference_mode(False), torch.no_grad():
            packing = Packing(self._unchanged_blocks())
            for module in self.modules():
                if isinstance(module, (SelfAttention, CausalAttention, CrossAttention, FeedForward)):
                    module.pack(packing)
                    joined.update(module.joined())
                elif isinstance(module, Linear) and module not in joined:
                    module.pack(packing)
            for module in reversed(list(self.modules())):
                if isinstance(module, PreTrainedModel):
                    module.prepare()
        self._prepared = Watch([self])

    def prepare(self) -> None:
        """What a kind of model prepares for inference itself, after its layers and the models in it."""

    def finish_preparing(self) -> None:
        """Do at once what a kind of model would do beside its first calls."""

    def for_training(self: _Self) -> _Self:
        """Training mode, with the blocks arranged for speed on a CPU (extra `fast`). Results, names and files stay.

        From then on, gradients of gradients are refused where a block computes in compiled passes.
        """
        self.train()
        if self.device.type == "cpu":
            keep_freed_memory()
            for module in self.modules():
                if isinstance(module, Block):
                    module.for_training()
        return self

    def _unchanged_blocks(self) -> dict[int, Blocks]:
        """The blocks that parameters were read from and still are, by the parameters' id()."""
        if not self.blocks:
            return {}
        parameters = dict(self.named_parameters())
        stored = ((parameters.get(name), blocks) for name, blocks in self.blocks.items())
        return {id(p): each.blocks for p, each in stored if p is not None and each.current(p)}
