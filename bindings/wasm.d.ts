// What an import of a .wasm file gives where a host has them.
declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
