"""The one table of names: model types, heads, tokenizers, pipeline tasks and public classes.

Everything is a string, so this module imports nothing and `import formers` stays fast. Registering a family here makes
its classes importable, its checkpoints loadable through the Auto classes, and runs the parity tests over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """One architecture. `prefix` starts its class names; `module` lies in `formers.models.families`."""

    prefix: str
    module: str
    heads: tuple[str, ...]
    tokenizer: str
    # Heads whose class has another prefix.
    prefixes: dict[str, str] = field(default_factory=dict)

    def class_name(self, head: str) -> str:
        """The name of a head's class."""
        return self.prefixes.get(head, self.prefix) + head


@dataclass(frozen=True)
class Task:
    """One pipeline task. `pipeline` is "module:class" in `formers.pipelines`; `auto` loads its model."""

    pipeline: str
    auto: str
    default_model: str
    # Of translation: what the default model translates, as in the tasks' names.
    pairs: tuple[str, ...] = ()


_ENCODER_HEADS = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)

# Some decoders have fewer: the first few of these.
_DECODER_HEADS = (
    "Model",
    "ForCausalLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)

_SEQ2SEQ_HEADS = (
    "Model",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "ForQuestionAnswering",
)
_T5_HEADS = (*_SEQ2SEQ_HEADS, "EncoderModel", "ForTokenClassification")

FAMILIES: dict[str, Family] = {
    "albert": Family("Albert", "albert", (*_ENCODER_HEADS, "ForPreTraining"), "AlbertTokenizer"),
    "bart": Family("Bart", "bart", (*_SEQ2SEQ_HEADS, "ForCausalLM"), "BartTokenizer"),
    "bert": Family(
        "Bert",
        "bert",
        (*_ENCODER_HEADS, "ForPreTraining", "ForNextSentencePrediction", "LMHeadModel"),
        "BertTokenizer",
    ),
    "camembert": Family("Camembert", "roberta", (*_ENCODER_HEADS, "ForCausalLM"), "CamembertTokenizer"),
    "deberta-v2": Family("DebertaV2", "deberta_v2", _ENCODER_HEADS, "DebertaV2Tokenizer"),
    "distilbert": Family("DistilBert", "distilbert", _ENCODER_HEADS, "DistilBertTokenizer"),
    "electra": Family("Electra", "electra", (*_ENCODER_HEADS, "ForPreTraining", "ForCausalLM"), "ElectraTokenizer"),
    "bloom": Family("Bloom", "bloom", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "encoder-decoder": Family(
        "EncoderDecoder",
        "encoder_decoder",
        ("EncoderDecoderModel",),
        "PreTrainedTokenizerFast",
        {"EncoderDecoderModel": ""},
    ),
    "falcon": Family("Falcon", "falcon", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "gemma": Family("Gemma", "gemma", _DECODER_HEADS[:4], "PreTrainedTokenizerFast"),
    "gemma2": Family("Gemma2", "gemma", _DECODER_HEADS[:4], "PreTrainedTokenizerFast"),
    "gemma3_text": Family(
        "Gemma3Text", "gemma", _DECODER_HEADS[:3], "PreTrainedTokenizerFast", {"ForCausalLM": "Gemma3"}
    ),
    "gpt2": Family(
        "GPT2",
        "gpt2",
        ("Model", "LMHeadModel", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
        "GPT2Tokenizer",
    ),
    "gpt_neo": Family("GPTNeo", "gpt_neo", _DECODER_HEADS, "GPT2Tokenizer"),
    "gpt_neox": Family("GPTNeoX", "gpt_neox", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "gptj": Family(
        "GPTJ", "gptj", ("Model", "ForCausalLM", "ForSequenceClassification", "ForQuestionAnswering"), "GPT2Tokenizer"
    ),
    "llama": Family("Llama", "llama", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "mistral": Family("Mistral", "mistral", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "mixtral": Family("Mixtral", "mistral", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "modernbert": Family("ModernBert", "modernbert", _ENCODER_HEADS, "PreTrainedTokenizerFast"),
    "mpnet": Family("MPNet", "mpnet", _ENCODER_HEADS, "MPNetTokenizer"),
    "olmo2": Family("Olmo2", "olmo2", _DECODER_HEADS[:3], "PreTrainedTokenizerFast"),
    "opt": Family(
        "OPT", "opt", ("Model", "ForCausalLM", "ForSequenceClassification", "ForQuestionAnswering"), "GPT2Tokenizer"
    ),
    "phi": Family("Phi", "phi", _DECODER_HEADS[:4], "PreTrainedTokenizerFast"),
    "phi3": Family("Phi3", "phi", _DECODER_HEADS[:4], "PreTrainedTokenizerFast"),
    "qwen2": Family("Qwen2", "qwen", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "qwen3": Family("Qwen3", "qwen", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "qwen3_moe": Family("Qwen3Moe", "qwen", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "roberta": Family("Roberta", "roberta", (*_ENCODER_HEADS, "ForCausalLM"), "RobertaTokenizer"),
    "smollm3": Family("SmolLM3", "smollm3", _DECODER_HEADS, "PreTrainedTokenizerFast"),
    "stablelm": Family("StableLm", "stablelm", _DECODER_HEADS[:4], "PreTrainedTokenizerFast"),
    "blenderbot": Family("Blenderbot", "bart", (*_SEQ2SEQ_HEADS[:2], "ForCausalLM"), "BlenderbotTokenizer"),
    "blenderbot-small": Family(
        "BlenderbotSmall", "bart", (*_SEQ2SEQ_HEADS[:2], "ForCausalLM"), "BlenderbotSmallTokenizer"
    ),
    "m2m_100": Family("M2M100", "marian", _SEQ2SEQ_HEADS[:2], "M2M100Tokenizer"),
    "marian": Family("Marian", "marian", ("Model", "MTModel", "ForCausalLM"), "MarianTokenizer"),
    "mbart": Family("MBart", "bart", (*_SEQ2SEQ_HEADS, "ForCausalLM"), "MBartTokenizer"),
    "mt5": Family("MT5", "mt5", _T5_HEADS, "T5Tokenizer"),
    "pegasus": Family("Pegasus", "marian", (*_SEQ2SEQ_HEADS[:2], "ForCausalLM"), "PegasusTokenizer"),
    "t5": Family("T5", "t5", _T5_HEADS, "T5Tokenizer"),
    "umt5": Family("UMT5", "mt5", _T5_HEADS, "T5Tokenizer"),
    "whisper": Family(
        "Whisper", "whisper", (*_SEQ2SEQ_HEADS[:2], "ForCausalLM", "ForAudioClassification"), "WhisperTokenizer"
    ),
    "xlm-roberta": Family("XLMRoberta", "roberta", (*_ENCODER_HEADS, "ForCausalLM"), "XLMRobertaTokenizer"),
}

AUTO_CLASSES: dict[str, tuple[str, ...]] = {
    "AutoModel": ("Model",),
    "AutoModelForCausalLM": ("ForCausalLM", "LMHeadModel"),
    "AutoModelForMaskedLM": ("ForMaskedLM",),
    "AutoModelForMultipleChoice": ("ForMultipleChoice",),
    "AutoModelForNextSentencePrediction": ("ForNextSentencePrediction",),
    "AutoModelForPreTraining": ("ForPreTraining", "ForMaskedLM"),
    "AutoModelForQuestionAnswering": ("ForQuestionAnswering",),
    "AutoModelForSeq2SeqLM": ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel"),
    "AutoModelForSequenceClassification": ("ForSequenceClassification",),
    "AutoModelForSpeechSeq2Seq": ("ForConditionalGeneration",),
    "AutoModelForTokenClassification": ("ForTokenClassification",),
}

# The module, in `formers.tokenization`, of each; with "Fast" at the end of the name it is the same class.
TOKENIZERS: dict[str, str] = {
    "AlbertTokenizer": "families",
    "BartTokenizer": "text2text",
    "BertTokenizer": "families",
    "BlenderbotTokenizer": "text2text",
    "BlenderbotSmallTokenizer": "blenderbot_small",
    "BloomTokenizer": "families",
    "ByT5Tokenizer": "byt5",
    "CamembertTokenizer": "families",
    "CodeGenTokenizer": "families",
    "DebertaV2Tokenizer": "families",
    "DistilBertTokenizer": "families",
    "ElectraTokenizer": "families",
    "GPT2Tokenizer": "families",
    "GPTNeoXTokenizer": "families",
    "GemmaTokenizer": "families",
    "LlamaTokenizer": "families",
    "M2M100Tokenizer": "m2m_100",
    "MarianTokenizer": "marian",
    "MBart50Tokenizer": "translation",
    "MBartTokenizer": "translation",
    "MPNetTokenizer": "families",
    "NllbTokenizer": "translation",
    "PegasusTokenizer": "text2text",
    "Qwen2Tokenizer": "families",
    "RobertaTokenizer": "families",
    "T5Tokenizer": "text2text",
    "WhisperTokenizer": "whisper",
    "XLMRobertaTokenizer": "families",
}

DEFAULT_SENTIMENT_MODEL = "formers/all-MiniLM-L6-v2-sst2"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# Models that read sound, by their types.
SPEECH = ("whisper",)

TASKS: dict[str, Task] = {
    "automatic-speech-recognition": Task(
        "automatic_speech_recognition:AutomaticSpeechRecognitionPipeline",
        "AutoModelForSpeechSeq2Seq",
        "openai/whisper-tiny.en",
    ),
    "feature-extraction": Task("feature_extraction:FeatureExtractionPipeline", "AutoModel", MINILM),
    "fill-mask": Task("fill_mask:FillMaskPipeline", "AutoModelForMaskedLM", "distilbert/distilroberta-base"),
    "question-answering": Task(
        "question_answering:QuestionAnsweringPipeline",
        "AutoModelForQuestionAnswering",
        "distilbert/distilbert-base-cased-distilled-squad",
    ),
    "text-classification": Task(
        "text_classification:TextClassificationPipeline",
        "AutoModelForSequenceClassification",
        DEFAULT_SENTIMENT_MODEL,
    ),
    "text-generation": Task(
        "text_generation:TextGenerationPipeline", "AutoModelForCausalLM", "HuggingFaceTB/SmolLM2-135M-Instruct"
    ),
    "text2text-generation": Task(
        "text2text_generation:Text2TextGenerationPipeline", "AutoModelForSeq2SeqLM", "google-t5/t5-base"
    ),
    "summarization": Task(
        "text2text_generation:SummarizationPipeline", "AutoModelForSeq2SeqLM", "sshleifer/distilbart-cnn-12-6"
    ),
    "translation": Task(
        "translation:TranslationPipeline",
        "AutoModelForSeq2SeqLM",
        "google-t5/t5-base",
        ("en_to_fr", "en_to_de", "en_to_ro"),
    ),
    "token-classification": Task(
        "token_classification:TokenClassificationPipeline",
        "AutoModelForTokenClassification",
        "dbmdz/bert-large-cased-finetuned-conll03-english",
    ),
    "zero-shot-classification": Task(
        "zero_shot_classification:ZeroShotClassificationPipeline",
        "AutoModelForSequenceClassification",
        "facebook/bart-large-mnli",
    ),
}

TASK_ALIASES: dict[str, str] = {"sentiment-analysis": "text-classification", "ner": "token-classification"}

_PLAIN: dict[str, str] = {
    "Adafactor": "formers.training.optimization",
    "AddedToken": "formers.tokenization",
    "AsyncTextIteratorStreamer": "formers.generation.streamers",
    "AutoConfig": "formers.models.auto",
    "AutoFeatureExtractor": "formers.audio.auto",
    "AutoPeftModel": "formers.adapters.auto",
    "AutoPeftModelForCausalLM": "formers.adapters.auto",
    "AutoPeftModelForFeatureExtraction": "formers.adapters.auto",
    "AutoPeftModelForQuestionAnswering": "formers.adapters.auto",
    "AutoPeftModelForSequenceClassification": "formers.adapters.auto",
    "AutoPeftModelForTokenClassification": "formers.adapters.auto",
    "AutoProcessor": "formers.audio.auto",
    "AutoTokenizer": "formers.tokenization",
    "BatchEncoding": "formers.tokenization",
    "BatchFeature": "formers.audio.batch",
    "BestRun": "formers.training.search",
    "CharSpan": "formers.tokenization",
    "DataCollatorForLanguageModeling": "formers.training.collators",
    "DataCollatorForMultipleChoice": "formers.training.collators",
    "DataCollatorForSeq2Seq": "formers.training.collators",
    "DataCollatorForTokenClassification": "formers.training.collators",
    "DataCollatorForWholeWordMask": "formers.training.collators",
    "DataCollatorWithFlattening": "formers.training.packing",
    "DataCollatorWithPacking": "formers.training.packing",
    "DataCollatorWithPadding": "formers.training.collators",
    "DynamicCache": "formers.layers.cache",
    "StaticCache": "formers.layers.cache",
    "DefaultDataCollator": "formers.training.collators",
    "DefaultFlowCallback": "formers.training.callbacks",
    "EarlyStoppingCallback": "formers.training.callbacks",
    "EncoderDecoderCache": "formers.layers.cache",
    "EncoderNoRepeatNGramLogitsProcessor": "formers.generation.processors",
    "EncoderRepetitionPenaltyLogitsProcessor": "formers.generation.processors",
    "EosTokenCriteria": "formers.generation.stopping",
    "EpsilonLogitsWarper": "formers.generation.warpers",
    "EtaLogitsWarper": "formers.generation.warpers",
    "EvalPrediction": "formers.training.evaluation",
    "ExponentialDecayLengthPenalty": "formers.generation.processors",
    "ForcedBOSTokenLogitsProcessor": "formers.generation.processors",
    "ForcedEOSTokenLogitsProcessor": "formers.generation.processors",
    "GenerationConfig": "formers.generation.config",
    "InfNanRemoveLogitsProcessor": "formers.generation.processors",
    "LogitNormalization": "formers.generation.processors",
    "LogitsProcessor": "formers.generation.processing",
    "LogitsProcessorList": "formers.generation.processing",
    "LoraConfig": "formers.adapters.config",
    "MaxLengthCriteria": "formers.generation.stopping",
    "MaxTimeCriteria": "formers.generation.stopping",
    "MinLengthLogitsProcessor": "formers.generation.processors",
    "MinNewTokensLengthLogitsProcessor": "formers.generation.processors",
    "MinPLogitsWarper": "formers.generation.warpers",
    "ModelSpec": "formers.models.spec",
    "NoBadWordsLogitsProcessor": "formers.generation.processors",
    "NoRepeatNGramLogitsProcessor": "formers.generation.processors",
    "PeftConfig": "formers.adapters.config",
    "PeftModel": "formers.adapters.model",
    "Pipeline": "formers.pipelines",
    "PreTrainedConfig": "formers.configuration",
    "PreTrainedModel": "formers.models.base",
    "PreTrainedTokenizer": "formers.tokenization",
    "PreTrainedTokenizerBase": "formers.tokenization",
    "PreTrainedTokenizerFast": "formers.tokenization",
    "PrefixConstrainedLogitsProcessor": "formers.generation.processors",
    "PretrainedConfig": "formers.configuration",
    "PrinterCallback": "formers.training.callbacks",
    "ProgressCallback": "formers.training.callbacks",
    "RepetitionPenaltyLogitsProcessor": "formers.generation.processors",
    "SchedulerType": "formers.training.optimization",
    "Seq2SeqTrainer": "formers.training.seq2seq",
    "Seq2SeqTrainingArguments": "formers.training.arguments",
    "SequenceBiasLogitsProcessor": "formers.generation.processors",
    "StopStringCriteria": "formers.generation.stopping",
    "StoppingCriteria": "formers.generation.stopping",
    "StoppingCriteriaList": "formers.generation.stopping",
    "SuppressTokensAtBeginLogitsProcessor": "formers.generation.processors",
    "SuppressTokensLogitsProcessor": "formers.generation.processors",
    "TaskType": "formers.adapters.config",
    "TemperatureLogitsWarper": "formers.generation.warpers",
    "TextIteratorStreamer": "formers.generation.streamers",
    "TextStreamer": "formers.generation.streamers",
    "TokenSpan": "formers.tokenization",
    "TopHLogitsWarper": "formers.generation.warpers",
    "TopKLogitsWarper": "formers.generation.warpers",
    "TopPLogitsWarper": "formers.generation.warpers",
    "Trainer": "formers.training.trainer",
    "TrainerCallback": "formers.training.callbacks",
    "TrainerControl": "formers.training.callbacks",
    "TrainerState": "formers.training.callbacks",
    "TrainingArguments": "formers.training.arguments",
    "TypicalLogitsWarper": "formers.generation.warpers",
    "WhisperFeatureExtractor": "formers.audio.extractor",
    "WhisperProcessor": "formers.audio.processor",
    "WhisperTimeStampLogitsProcessor": "formers.generation.timestamps",
    "default_data_collator": "formers.training.collators",
    "get_constant_schedule": "formers.training.optimization",
    "get_constant_schedule_with_warmup": "formers.training.optimization",
    "get_cosine_schedule_with_warmup": "formers.training.optimization",
    "get_cosine_with_hard_restarts_schedule_with_warmup": "formers.training.optimization",
    "get_cosine_with_min_lr_schedule_with_warmup": "formers.training.optimization",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "formers.training.optimization",
    "get_inverse_sqrt_schedule": "formers.training.optimization",
    "get_linear_schedule_with_warmup": "formers.training.optimization",
    "get_peft_model": "formers.adapters.model",
    "get_peft_model_state_dict": "formers.adapters.model",
    "get_polynomial_decay_schedule_with_warmup": "formers.training.optimization",
    "get_reduce_on_plateau_schedule": "formers.training.optimization",
    "get_scheduler": "formers.training.optimization",
    "get_wsd_schedule": "formers.training.optimization",
    "pipeline": "formers.pipelines",
    "set_peft_model_state_dict": "formers.adapters.model",
    "set_seed": "formers.seed",
}


def auto_head(auto: str, model_type: str) -> str | None:
    """The head with which an Auto class loads a model type; None if it loads none of that type.

    Encoder–decoders of sound and those of text have the same head, and an Auto class each.
    """
    for_sound = {"AutoModelForSpeechSeq2Seq": True, "AutoModelForSeq2SeqLM": False}.get(auto)
    if for_sound is not None and for_sound is not (model_type in SPEECH):
        return None
    offered = FAMILIES[model_type].heads
    return next((head for head in AUTO_CLASSES[auto] if head in offered), None)


def task_name(name: str) -> str | None:
    """The name in TASKS of a task, of an alias, or of a translation between two languages; None if there is none."""
    name = TASK_ALIASES.get(name, name)
    name = name if language_pair(name) is None else "translation"
    return name if name in TASKS else None


def language_pair(task: str) -> tuple[str, str] | None:
    """The languages in the name of a task such as translation_en_to_fr; None if it names none."""
    start, _, pair = task.partition("_")
    source, _, target = pair.partition("_to_")
    return (source, target) if start == "translation" and source and target else None


def public_names() -> dict[str, str]:
    """Every public name and the module whose attribute it is."""
    names = dict(_PLAIN)
    names.update(dict.fromkeys(AUTO_CLASSES, "formers.models.auto"))
    for tokenizer in TOKENIZERS:
        names[tokenizer] = names[tokenizer + "Fast"] = "formers.tokenization"
    for family in FAMILIES.values():
        names[family.prefix + "Config"] = f"formers.models.families.{family.module}"
        names.update({family.class_name(head): "formers.models.auto" for head in family.heads})
    for task in TASKS.values():
        module, name = task.pipeline.split(":")
        names[name] = f"formers.pipelines.{module}"
    return names
