//! [Kernel v3 accounts](https://github.com/zerodevapp/kernel): version, factory and owner from initCode, and the
//! CREATE2 address.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, address, b256, hex, keccak256};
use alloy_sol_types::{SolCall, sol};

use crate::Init;

/// The factory of factories, which is staked so that bundlers accept it.
pub const META_FACTORY: Address = address!("d703aaE79538628d27099B8c4f621bE4CCd142d5");
/// The validator of an owner who is an EOA.
pub const ECDSA_VALIDATOR: Address = address!("845ADb2C711129d4f3966735eD98a9F09fC4cE57");

sol! {
    function deployWithFactory(address factory, bytes createData, bytes32 salt) external payable returns (address);
    function createAccount(bytes data, bytes32 salt) external payable returns (address);
    function initialize(bytes21 rootValidator, address hook, bytes validatorData, bytes hookData, bytes[] initConfig) external;
}

/// The Kernels that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelVersion {
    /// Kernel version 0.3.1.
    V031,
    /// Kernel version 0.3.2.
    V032,
    /// Kernel version 0.3.3.
    V033,
}

impl KernelVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V031, Self::V032, Self::V033];

    /// Returns `0.3.1`, `0.3.2` or `0.3.3`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V031 => "0.3.1",
            Self::V032 => "0.3.2",
            Self::V033 => "0.3.3",
        }
    }

    /// Returns the version that an account states by `accountId()`: `kernel.advanced.v0.3.1`.
    #[must_use]
    pub fn from_account_id(id: &str) -> Option<Self> {
        let version = id.strip_prefix("kernel.advanced.v")?;
        Self::ALL.into_iter().find(|v| v.as_str() == version)
    }

    /// Returns the factory of this version.
    #[must_use]
    pub const fn factory(self) -> Address {
        match self {
            Self::V031 => address!("aac5D4240AF87249B3f71BC8E4A2cae074A3E419"),
            Self::V032 => address!("7a1dBAB750f12a90EB1B60D2Ae3aD17D4D81EfFe"),
            Self::V033 => address!("2577507b78c2008Ff367261CB6285d44ba5eF2E9"),
        }
    }

    /// Returns the version that has this factory.
    pub(super) fn of_factory(factory: Address) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.factory() == factory)
    }

    /// Returns the implementation, to which a proxy or an EIP-7702 delegation points.
    #[must_use]
    pub const fn implementation(self) -> Address {
        match self {
            Self::V031 => address!("BAC849bB641841b44E965fB01A4Bf5F074f84b4D"),
            Self::V032 => address!("D830D15D3dc0C269F3dBAa0F3e8626d33CFdaBe1"),
            Self::V033 => address!("d6CEDDe84be40893d153Be9d467CD6aD37875b28"),
        }
    }

    const fn init_code_hash(self) -> B256 {
        match self {
            Self::V031 => b256!("85d96aa1c9a65886d094915d76ccae85f14027a02c1647dde659f869460f03e6"),
            Self::V032 => b256!("c7c48c9dd12de68b8a4689b6f8c8c07b61d4d6fa4ddecdd86a6980d045fa67eb"),
            Self::V033 => b256!("c452397f1e7518f8cea0566ac057e243bb1643f6298aba8eec8cdee78ee3b3dd"),
        }
    }
}

/// A Kernel whose owner is an EOA, as its initCode creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelAccount {
    /// The version of the Kernel.
    pub version: KernelVersion,
    /// Whether the meta factory creates the account, or the version's own factory directly.
    pub meta_factory: bool,
    /// The owner, who signs for the root validator.
    pub owner: Address,
    /// The salt, which distinguishes the owner's accounts.
    pub salt: B256,
}

/// The error for initCode that is not that of a Kernel with an ECDSA owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The call is neither `deployWithFactory` nor `createAccount` of a Kernel 0.3.1 to 0.3.3, or further bytes follow.
    #[error("expected initCode of a Kernel 0.3.1 to 0.3.3, found another")]
    NotKernel,
    /// The factory is not on the list of those whose addresses are recomputed.
    #[error("unknown factory {0}")]
    Factory(Address),
    /// The root validator is not the ECDSA validator, so the owner is unknown.
    #[error("unsupported root validator {0}")]
    RootValidator(FixedBytes<21>),
    /// A hook or modules are installed at creation: they may permit what no policy does.
    #[error("expected initCode without hook and modules, found some")]
    Extra,
    /// The factory belongs to another version than was requested.
    #[error("expected the account address that initCode creates, found another")]
    Address,
}

impl KernelAccount {
    /// Creates the `index`-th account of an owner, deployed by the meta factory as the SDK does.
    #[must_use]
    pub fn new(version: KernelVersion, owner: Address, index: U256) -> Self {
        Self { version, meta_factory: true, owner, salt: index.into() }
    }

    /// Parses factory data. Only bytes that [`factory_data`](Self::factory_data) produces are accepted.
    /// # Errors
    /// The factory, validator, hook or modules are not as expected.
    pub fn from_factory_data(data: &[u8]) -> Result<Self, AccountError> {
        Self::from_read(FactoryData::read(data)?)
    }

    fn from_read(data: FactoryData) -> Result<Self, AccountError> {
        let version = match data.factory {
            Some(factory) => KernelVersion::of_factory(factory).ok_or(AccountError::Factory(factory))?,
            // The direct factories of 0.3.1 and later take the same calldata; only the address distinguishes them.
            None => KernelVersion::V031,
        };
        Ok(Self { version, meta_factory: data.factory.is_some(), owner: data.owner, salt: data.salt })
    }

    /// Parses factory data for an account whose address is known: they must create exactly this address.
    /// # Errors
    /// The errors of [`from_factory_data`](Self::from_factory_data), and [`AccountError::Address`].
    pub fn at(address: Address, factory_data: &[u8]) -> Result<Self, AccountError> {
        Self::made_at(address, FactoryData::read(factory_data)?)
    }

    pub(super) fn made_at(address: Address, data: FactoryData) -> Result<Self, AccountError> {
        let account = Self::from_read(data)?;
        let versions: &[KernelVersion] = if account.meta_factory { &[account.version] } else { &KernelVersion::ALL };
        versions
            .iter()
            .map(|version| Self { version: *version, ..account })
            .find(|a| a.address() == address)
            .ok_or(AccountError::Address)
    }

    /// Computes `CREATE2(factory, keccak(createData ‖ salt), initCodeHash)`.
    #[must_use]
    pub fn address(&self) -> Address {
        let salt = keccak256([&self.create_data()[..], self.salt.as_slice()].concat());
        self.version.factory().create2(salt, self.version.init_code_hash())
    }

    /// Returns the contract that is called to create the account.
    #[must_use]
    pub const fn factory(&self) -> Address {
        if self.meta_factory { META_FACTORY } else { self.version.factory() }
    }

    /// Returns the calldata that create the account.
    #[must_use]
    pub fn factory_data(&self) -> Bytes {
        self.data().write()
    }

    /// Returns the init code for an operation.
    #[must_use]
    pub fn init(&self) -> Init {
        Init::Factory { factory: self.factory(), data: self.factory_data() }
    }

    pub(super) fn data(&self) -> FactoryData {
        let factory = self.meta_factory.then(|| self.version.factory());
        FactoryData { factory, owner: self.owner, salt: self.salt }
    }

    fn create_data(&self) -> Bytes {
        self.data().create_data()
    }
}

/// The content of a Kernel's factory data, whatever its factory.
#[derive(Debug, Clone, Copy)]
pub(super) struct FactoryData {
    /// The factory behind the meta factory; `None` if the data are for the factory itself, which they do not name.
    pub(super) factory: Option<Address>,
    /// The owner, who signs for the root validator.
    pub(super) owner: Address,
    salt: B256,
}

impl FactoryData {
    /// Parses factory data. Only bytes that [`write`](Self::write) produces are accepted.
    pub(super) fn read(data: &[u8]) -> Result<Self, AccountError> {
        let (factory, create, salt) = if data.starts_with(&deployWithFactoryCall::SELECTOR) {
            let call = deployWithFactoryCall::abi_decode(data).map_err(|_| AccountError::NotKernel)?;
            (Some(call.factory), call.createData, call.salt)
        } else {
            let call = createAccountCall::abi_decode(data).map_err(|_| AccountError::NotKernel)?;
            (None, call.data, call.salt)
        };
        let init = initializeCall::abi_decode(&create).map_err(|_| AccountError::NotKernel)?;
        if !init.hook.is_zero() || !init.hookData.is_empty() || !init.initConfig.is_empty() {
            return Err(AccountError::Extra);
        }
        if init.rootValidator != root_validator() {
            return Err(AccountError::RootValidator(init.rootValidator));
        }
        let owner: [u8; 20] = init.validatorData.as_ref().try_into().map_err(|_| AccountError::NotKernel)?;
        let read = Self { factory, owner: owner.into(), salt };
        if *read.write() == *data { Ok(read) } else { Err(AccountError::NotKernel) }
    }

    fn write(&self) -> Bytes {
        let (create, salt) = (self.create_data(), self.salt);
        let data = match self.factory {
            Some(factory) => deployWithFactoryCall { factory, createData: create, salt }.abi_encode(),
            None => createAccountCall { data: create, salt }.abi_encode(),
        };
        data.into()
    }

    /// Formats the factory data in the SDK's spelling: validator and owner keep the upper case of their checksums.
    pub(super) fn text(&self) -> String {
        let mut text = hex::encode_prefixed(self.write());
        // Salt and offsets precede them, so the last occurrences are those of `initialize`.
        for (before, address) in [("3c3b752b01", ECDSA_VALIDATOR), ("", self.owner)] {
            let checksum = address.to_checksum(None);
            let digits = checksum.trim_start_matches("0x");
            let found = text.rfind(&format!("{before}{}", digits.to_lowercase()));
            if let Some(at) = found.and_then(|at| at.checked_add(before.len())) {
                text.replace_range(at..at + digits.len(), digits);
            }
        }
        text
    }

    fn create_data(&self) -> Bytes {
        let call = initializeCall {
            rootValidator: root_validator(),
            hook: Address::ZERO,
            validatorData: Bytes::copy_from_slice(self.owner.as_slice()),
            hookData: Bytes::new(),
            initConfig: Vec::new(),
        };
        call.abi_encode().into()
    }
}

/// Builds `0x01 ‖ validator`.
fn root_validator() -> FixedBytes<21> {
    FixedBytes::<1>::repeat_byte(1).concat_const(ECDSA_VALIDATOR.0)
}
