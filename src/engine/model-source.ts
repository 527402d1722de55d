/** What a caller may name as a model. Types only. */

/**
 * Where a model is: a GGUF file, or by a URL that ends in "/" a folder with config.json, safetensors and tokenizer files.
 * A Blob is read in place; nothing is copied but what is installed.
 */
export type ModelSource =
  | {
      readonly kind: 'url';
      /** Also `hf:owner/name[@revision][/file]`, a repository on the Hugging Face Hub. */
      readonly url: string;
      /** For private and gated repositories of the hub. */
      readonly accessToken?: string | undefined;
      /** Another hub than https://huggingface.co, with the same routes. */
      readonly hubUrl?: string | undefined;
    }
  | {
      readonly kind: 'file';
      /** A handle, which a page may keep in IndexedDB, is opened at each load. */
      readonly file: Blob | FileSystemFileHandle;
      readonly name: string;
    }
  | {
      readonly kind: 'folder';
      /** From a picker or a drop; files from an input element or a drop, one GGUF file with its parts or a whole folder. */
      readonly folder: FileSystemDirectoryHandle | readonly File[];
      readonly name: string;
    };
