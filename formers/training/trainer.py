"""The Trainer: one loop, readable from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from formers.seed import set_seed
from formers.training import checkpoints, data, distributed, evaluation, labels, losses, preparation, reporting
from formers.training.arguments import TrainingArguments
from formers.training.callbacks import TrainerCallback, TrainerControl, TrainerState, metric_value
from formers.training.data import Batch
from formers.training.evaluation import PredictionOutput, TrainOutput, speed, split
from formers.training.publishing import Publisher
from formers.training.reporting import CardFields
from formers.training.search import BestRun, Search, SearchOptions


class Trainer:
    """Trains a model on a dataset, evaluates it, and keeps checkpoints that resume exactly.

    The model is any module that returns a loss when it gets labels; the arguments are those of the reference.
    Datasets are `datasets.Dataset`s, lists of mappings, torch datasets, or iterables. `processing_class` (also
    `tokenizer`) pads the batches unless a `data_collator` does, and is saved with the model.

    Gradients are those of the mean loss over all items (examples, or tokens with a label) of a step's batches:
    accumulating k batches equals one batch of k times the size. `compute_loss` and `compute_loss_func` get the number
    of items of the one batch that they get, and return its mean loss.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Batch] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[..., Mapping[str, Any]] | None = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        self.args = args = args or TrainingArguments("tmp_trainer")
        preparation.begin(args)
        self.model_init = model_init
        self.model: Any = preparation.model_of(model, model_init)
        self.model_wrapped: Any = self.model
        preparation.check_choices(args, eval_dataset, model_init, optimizers, optimizer_cls_and_kwargs)
        self.processing_class = preparation.one_tokenizer(processing_class, tokenizer)
        self.data_collator = preparation.collator_of(data_collator, self.processing_class)
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.optimizers = optimizers
        self.optimizer, self.lr_scheduler = optimizers
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self.compute_loss_func = compute_loss_func
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.label_names = labels.label_names(self.model, args)
        self.main_input: str = getattr(self.model, "main_input_name", "input_ids")
        self.objective = preparation.objective_of(self.model, args, self.label_names, compute_loss_func)
        self.state = TrainerState()
        self.control = TrainerControl()
        self.callbacks = preparation.callbacks_of(args, callbacks or ())
        self.publisher = Publisher(args) if args.push_to_hub and args.process_index == 0 else None
        # What a search is told: the metrics and the step of every evaluation.
        self.report: Callable[[dict[str, float], int], None] | None = None
        self.train_dataloader: Any = None
        self.eval_dataloader: Any = None
        self.event("on_init_end")

    @property
    def tokenizer(self) -> Any:
        """Another name of `processing_class`."""
        return self.processing_class

    # -- training ------------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | PathLike[str] | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as the arguments say. `resume_from_checkpoint`: a checkpoint's folder, or True for the last one.

        A resumed training ends with the weights that an uninterrupted one has, bit by bit. `trial` of a search is
        handed to `model_init`.
        """
        args = self.args
        wish = args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        checkpoint = checkpoints.to_resume(wish, str(args.output_dir))
        set_seed(args.seed, args.full_determinism)
        if self.model_init is not None:
            self.model = self.model_wrapped = preparation.model_of(None, self.model_init, trial)
        own_loss = type(self).compute_loss is not Trainer.compute_loss or self.compute_loss_func is not None
        self.train_dataloader = loader = self.get_train_dataloader()
        preparation.check_training(
            self.model, loader, self.train_dataset, self.eval_dataset, own_loss, self.label_names
        )
        max_steps, epochs, batches = data.length(loader, args)
        self.objective = preparation.objective_of(
            self.model, args, self.label_names, self.compute_loss_func, self.train_dataset
        )
        self.model_wrapped = preparation.make_ready(self.model, args)
        self.optimizer, self.lr_scheduler = self.optimizers
        self.create_optimizer_and_scheduler(max_steps)
        assert self.optimizer is not None
        self.state = preparation.state_of(args, max_steps, epochs, trial)
        self.control = TrainerControl()
        checkpoints.check_saveable(args, self.lr_scheduler)
        self._parameters = preparation.parameters_of(self.model)
        if checkpoint is not None:
            self._resume(checkpoint)
        self.state.compute_steps(args, max_steps)
        checkpoints.clean(args)
        with preparation.kernels(args):
            return self._fit(loader, batches, ignore_keys_for_eval)

    def _fit(self, loader: Any, batches: int | None, ignore_keys: list[str] | None) -> TrainOutput:
        args, state = self.args, self.state
        begin, first_step = time.perf_counter(), state.global_step
        self.event("on_train_begin")
        if args.eval_on_start and state.global_step == 0:
            self._evaluate(ignore_keys)
        self.model.train()
        examples = 0
        while state.global_step < state.max_steps and not self.control.should_training_stop:
            self.control.should_epoch_stop = False
            self.event("on_epoch_begin")
            size = args.gradient_accumulation_steps
            epoch = data.batches(loader, state.epochs_done, state.steps_done * size)
            for window, last in data.windows(epoch, size):
                examples += sum(map(losses.rows, window))
                norm, rate = self._step(window)
                done = state.steps_done * size + len(window)
                state.epoch = state.epochs_done + done / (batches or state.max_steps * size)
                state.steps_done += 1
                self.event("on_step_end")
                # The end of an epoch belongs to its last step, so that one checkpoint holds the outcome of both.
                if last or self.control.should_epoch_stop:
                    state.epochs_done, state.steps_done = state.epochs_done + 1, 0
                    state.epoch = float(state.epochs_done) if last else state.epoch
                    self.event("on_epoch_end")
                self._log_evaluate_save(norm, rate, ignore_keys)
                if self.control.should_epoch_stop or self.control.should_training_stop:
                    break
        if args.load_best_model_at_end:
            checkpoints.load_best(self.model, state)
        metrics = speed("train", begin, distributed.total(examples)[0], state.global_step - first_step)
        metrics["total_flos"] = state.total_flos
        metrics["train_loss"] = state.loss_sum / max(1, state.global_step)
        if args.include_num_input_tokens_seen != "no":
            metrics["train_tokens_per_second"] = round(state.num_input_tokens_seen / metrics["train_runtime"], 3)
        self.log(dict(metrics))
        self.event("on_train_end")
        self.create_model_card()
        if self.publisher is not None:
            self.publisher.finish()
        return TrainOutput(state.global_step, metrics["train_loss"], {**metrics, "epoch": state.epoch})

    def _step(self, window: list[Batch]) -> tuple[float | None, float]:
        """One update from the batches of a window: the norm of its gradient, and the learning rate that it used."""
        args, state, optimizer = self.args, self.state, self.optimizer
        assert optimizer is not None
        control = self.control
        control.should_log = control.should_evaluate = control.should_save = False
        self.event("on_step_begin")
        items = [self.objective.items(batch) for batch in window]
        (whole,) = distributed.total(sum(items))
        loss = tokens = flos = 0.0
        for number, (batch, count) in enumerate(zip(window, items, strict=True), start=1):
            if count:
                loss += float(self.training_step(self.model_wrapped, batch, count, count / whole))
            tokens += data.tokens(batch, self.main_input, str(args.include_num_input_tokens_seen))
            flos += self.floating_point_ops(batch)
            if number < len(window):
                self.event("on_substep_end")
        loss, tokens, flos = distributed.total(loss, tokens, flos)
        distributed.add_gradients(self.model, args.ddp_bucket_cap_mb)
        state.num_input_tokens_seen += int(tokens)
        state.total_flos += flos
        checkpoints.check_finite("loss", loss, state, args)
        norm = None
        if args.max_grad_norm:
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), args.max_grad_norm))
            checkpoints.check_finite("norm of the gradient", norm, state, args)
        self.event("on_pre_optimizer_step")
        optimizer.step()
        self.event("on_optimizer_step")
        rate = float(optimizer.param_groups[0]["lr"])
        if not isinstance(self.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.lr_scheduler.step()
        optimizer.zero_grad()
        state.global_step += 1
        state.loss_sum += loss
        return norm, rate

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: float | None = None, share: float = 1.0
    ) -> Tensor:
        """Add the gradient of `share` times a batch's mean loss, and return that product."""
        inputs = self._prepare_inputs(inputs)
        with preparation.numerics(self.args):
            loss = self._loss(model, inputs, num_items_in_batch, return_outputs=False)
        loss = loss * share
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        detached: Tensor = loss.detach()
        return detached

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: float | None = None
    ) -> Any:
        """The mean loss of a batch, with `return_outputs` also the model's outputs. To be overridden."""
        loss, outputs = self.objective(model, inputs, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: Batch) -> float:
        """Operations to train on a batch, as the model counts them; else 6 for each token and parameter."""
        own = getattr(self.model, "floating_point_ops", None)
        return float(own(inputs)) if own else 6.0 * data.tokens(inputs, self.main_input, "all") * self._parameters

    def _loss(self, model: nn.Module, inputs: Batch, items: float | None, return_outputs: bool) -> Any:
        if losses.takes_items(self.compute_loss):
            return self.compute_loss(model, inputs, return_outputs=return_outputs, num_items_in_batch=items)
        return self.compute_loss(model, inputs, return_outputs=return_outputs)

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Make what the caller did not give. To be overridden."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps, self.optimizer)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer unless there is one."""
        args, model = self.args, self.model if model is None else model
        if self.optimizer is None:
            self.optimizer = preparation.optimizer_of(model, args, self.optimizer_cls_and_kwargs)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Make the schedule of the learning rate unless there is one."""
        args, optimizer = self.args, optimizer or self.optimizer
        assert optimizer is not None
        if self.lr_scheduler is None:
            self.lr_scheduler = preparation.scheduler_of(optimizer, args, num_training_steps)
        return self.lr_scheduler

    def get_train_dataloader(self) -> Any:
        """The batches of the training data: a Loader, or when overridden any iterable of batches."""
        data.check_dataset(self.train_dataset, "train_dataset")
        return data.training_loader(self.train_dataset, self._collate(), self.args, self.main_input)

    def _collate(self) -> data.Collate:
        return data.Columns.around(self.data_collator, self.model, self.args, self.label_names)

    def _log_evaluate_save(self, norm: float | None, rate: float, ignore_keys: list[str] | None) -> None:
        state = self.state
        if self.control.should_log:
            logs = {"loss": state.mean_loss, "grad_norm": norm, "learning_rate": rate}
            state.loss_sum_at_log, state.step_at_log = state.loss_sum, state.global_step
            self.log({name: value for name, value in logs.items() if value is not None})
        if self.control.should_evaluate:
            self._evaluate(ignore_keys)
        if self.control.should_save:
            self._save_checkpoint()
            self.event("on_save")

    def _evaluate(self, ignore_keys: list[str] | None) -> None:
        args = self.args
        metrics = self.evaluate(ignore_keys=ignore_keys)
        if self.report is not None:
            self.report(metrics, self.state.global_step)
        if args.metric_for_best_model is None:
            return
        value = metric_value(metrics, args)
        if isinstance(self.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.lr_scheduler.step(value)
        best = self.state.note(value, args)
        if args.save_strategy == "best":
            self.control.should_save = best

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        args, state = self.args, self.state
        state.best_model_checkpoint = checkpoints.best(str(args.output_dir), state)
        state.stateful_callbacks = self.callbacks.states()
        optimizer, scheduler = (None, None) if args.save_only_model else (self.optimizer, self.lr_scheduler)
        rng = distributed.gather(checkpoints.rng_state())
        if args.should_save:
            saved = checkpoints.save(
                str(args.output_dir), self.model, state, args, optimizer, scheduler, self._saved_tokenizer(), rng
            )
            if self.publisher is not None:
                self.publisher.push_checkpoint(saved)
            checkpoints.rotate(str(args.output_dir), args.save_total_limit, state)
        distributed.wait()

    def _resume(self, checkpoint: Path) -> None:
        assert self.optimizer is not None
        here, saved = distributed.place(), checkpoints.load_state(checkpoint)
        # What belongs to this process and this call stays.
        own = ("max_steps", "is_local_process_zero", "is_world_process_zero")
        self.state = replace(saved, **{name: getattr(self.state, name) for name in own})
        checkpoints.load_model(self.model, checkpoint)
        checkpoints.load_progress(checkpoint, self.optimizer, self.lr_scheduler, here.rank, here.world_size)
        if self.args.restore_callback_states_from_checkpoint:
            self.callbacks.restore(self.state.stateful_callbacks)

    def save_model(self, output_dir: str | PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write weights, configuration, tokenizer and training arguments; with `push_to_hub` also to the hub."""
        folder = Path(str(self.args.output_dir) if output_dir is None else output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoints.save_model(self.model, folder, self.args, self._saved_tokenizer())
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub("Model save")

    def save_state(self) -> None:
        """Write trainer_state.json into the output folder."""
        if self.args.should_save:
            self.state.save_to_json(reporting.folder_of(self.args) / checkpoints.STATE)

    def _saved_tokenizer(self) -> Any:
        found = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        return found if hasattr(found, "save_pretrained") else None

    # -- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and metrics on the evaluation data; of each dataset under its name if there are several by name."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, Mapping):
            metrics: dict[str, float] = {}
            for name, one in dataset.items():
                metrics.update(self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{name}"))
            return metrics
        output = evaluation.run(self, self.get_eval_dataloader(dataset), metric_key_prefix, ignore_keys)
        self.log(output.metrics)
        self.event("on_evaluate", metrics=output.metrics)
        return output.metrics

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predictions, labels and metrics on a dataset, in its order."""
        loader = self.get_test_dataloader(test_dataset)
        output = evaluation.run(self, loader, metric_key_prefix, ignore_keys, keep=True)
        self.event("on_predict", metrics=output.metrics)
        return PredictionOutput(output.predictions, output.label_ids, output.metrics)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The batches of a dataset to evaluate on: examples of like length together."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        dataset = self.eval_dataset[dataset] if isinstance(dataset, str) else dataset
        data.check_dataset(dataset, "eval_dataset")
        labels.detect_problem(self.model, dataset)
        return data.evaluation_loader(dataset, self._collate(), self.args, self.main_input)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The batches of a dataset to predict."""
        return self.get_eval_dataloader(test_dataset)

    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, predictions and labels of a batch, each None where there is none. To be overridden."""
        inputs = self._prepare_inputs(inputs)
        found = [inputs[name] for name in self.label_names if inputs.get(name) is not None]
        with torch.no_grad(), preparation.numerics(self.args):
            if found:
                loss, outputs = self._loss(model, inputs, self.objective.items(inputs), return_outputs=True)
            else:
                loss, outputs = None, model(**inputs)
        if prediction_loss_only:
            return loss, None, None
        return loss, split(outputs, bool(found), ignore_keys), found[0] if len(found) == 1 else tuple(found) or None

    # -- the rest ------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add values to the history under the current step, and hand them to the callbacks."""
        state = self.state
        logs["epoch"] = state.epoch
        if self.args.include_num_input_tokens_seen != "no":
            logs["num_input_tokens_seen"] = state.num_input_tokens_seen
        if start_time is not None:
            logs["seconds"] = round(time.time() - start_time, 4)
        state.log_history.append({**logs, "step": state.global_step})
        self.event("on_log", logs=logs)

    def create_model_card(self, **given: Unpack[CardFields]) -> None:
        """Write README.md with data, settings and results into the output folder, unless it holds another one."""
        if self.is_world_process_zero():
            datasets = {"training": self.train_dataset, "evaluation": self.eval_dataset}
            reporting.write_card(self.args, self.model, datasets, self.state.log_history, given)

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Add a callback."""
        self.callbacks.add(callback)

    def pop_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """Take a callback out, and return it."""
        return self.callbacks.pop(callback)

    remove_callback = pop_callback

    def is_world_process_zero(self) -> bool:
        """Whether this is the first of all processes."""
        return self.args.process_index == 0

    def is_local_process_zero(self) -> bool:
        """Whether this is the first process of its computer."""
        return self.args.local_process_index == 0

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], Mapping[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "minimize",
        backend: str | None = None,
        hp_name: Callable[[Any], str] | None = None,
        **options: Unpack[SearchOptions],
    ) -> BestRun | list[BestRun]:
        """Train `n_trials` times with hyperparameters that optuna chooses, each in a folder run-<number>; the best run.

        `hp_space` takes optuna's trial and returns TrainingArguments by name; `compute_objective` makes the number to
        minimise or maximise of an evaluation's metrics: by default their sum, or the loss where there are no others.
        Trials are given up by the `pruner` at evaluations. With a list as `direction` there is one number for each,
        and all runs come back that no other beats. `options` are optuna's.
        """
        found = Search(self, hp_space, compute_objective, direction, backend, hp_name, options)
        return found.run(n_trials)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Unpack[CardFields],
    ) -> Any:
        """Save the model and upload the output folder: the commit, or its future unless `blocking`.

        The repository is `args.hub_model_id`, or has the folder's name; it is made if need be, `private` or not.
        Only the first process uploads; the others get None.
        """
        if self.publisher is None and self.is_world_process_zero():
            self.publisher = Publisher(self.args, token, private)
        self.save_model(_internal_call=True)
        self.create_model_card(**card)
        return None if self.publisher is None else self.publisher.push(commit_message, blocking, token, revision)

    def event(self, event: str, **more: Any) -> None:
        """Call an event of all callbacks."""
        parts = ("model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader")
        given = {name: getattr(self, name) for name in parts}
        self.control = self.callbacks.call(event, self.args, self.state, self.control, **given, **more)

    def _prepare_inputs(self, inputs: Batch) -> dict[str, Any]:
        device = self.args.device
        return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in inputs.items()}
